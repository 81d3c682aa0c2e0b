"""Some knobs fixed, the others left to another sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from trialfleet.checking.mistakes import FieldError, shown, under
from trialfleet.checking.rules import Rule
from trialfleet.search import fixed
from trialfleet.search.parameters import encode
from trialfleet.search.samplers.base import Sampler
from trialfleet.search.samplers.models import Tpe
from trialfleet.search.samplers.named import ANY_SAMPLER

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.search.numbered.visits import Visits
    from trialfleet.study.spec import Spec


class _Knobs(Rule):
    """A table of searched knobs and their values; which there are, the study knows."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "a table of searched knobs and their values such as { gamma = 0.99 }"

    def check(self, value: object) -> dict[str, Any]:
        """The table itself."""
        if isinstance(value, dict):
            return value
        raise self.refusal(value)


class PartialFixed(Sampler):
    """Gives some of the searched knobs one value, and leaves the others to another sampler."""

    name: Literal["partial_fixed"] = "partial_fixed"
    # one value for some of the searched knobs
    fixed: Annotated[dict[str, Any], _Knobs()]
    # the sampler of the other knobs, given like the sampler itself
    wrapped: Annotated[Sampler, ANY_SAMPLER] = Tpe()

    def check(self, spec: Spec) -> None:
        """The values must be in the space, and the sampler must go with what is left of it."""
        with under("fixed"):
            values = fixed.checked(self.fixed, spec.agent)
        if len(values) == len(spec.agent.searched()):
            raise FieldError(
                f"{shown(self.fixed)} of all knobs that are searched; must leave one to search",
                at="fixed",
            )
        with under("wrapped"):
            self.wrapped.check(self._rest(spec))

    def visits(self, spec: Spec) -> Visits | None:
        """Those of the other sampler, in what is left of the space."""
        return self.wrapped.visits(self._rest(spec))

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler around the other one."""
        from optuna.samplers import PartialFixedSampler

        values = fixed.checked(self.fixed, spec.agent)
        return PartialFixedSampler(
            encode(values, spec.agent), self.wrapped.build(self._rest(spec), seed)
        )

    def generation_key(self) -> str | None:
        """That of the sampler behind it."""
        return self.wrapped.generation_key()

    def probe(self, spec: Spec) -> None:
        """Try the sampler behind it."""
        with under("wrapped"):
            self.wrapped.probe(self._rest(spec))

    def _rest(self, spec: Spec) -> Spec:
        """The study as the other sampler sees it."""
        agent = spec.agent.fixing(fixed.checked(self.fixed, spec.agent))
        return spec.model_copy(update={"agent": agent})
