"""What TensorBoard's HParams and Custom Scalars pages are told about a study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util

from coordinator.tensorboard.events import SCORE
from trialfleet.search.knobs import (
    Choices,
    FloatRange,
    IntRange,
    Knob,
    Layers,
    Searched,
    SearchSpace,
)

Value: TypeAlias = summary_pb2.Summary.Value


def experiment(space: SearchSpace, metric: str, *, judged_by: str = "score") -> Iterable[Value]:
    """Every hyperparameter, the searched ones first, and what a run is judged by."""
    searched = space.searched()
    names = [*searched, *(name for name in space if name not in searched)]
    declared = [summary_v2.HParam(name, _domain(space[name])) for name in names]
    metrics = [
        summary_v2.Metric(SCORE, display_name=judged_by.capitalize()),
        summary_v2.Metric(metric, display_name=metric),
    ]
    [value] = summary_v2.hparams_config_pb(declared, metrics).value
    # TensorBoard shows the first few by name, unless it is told which ones differ between runs.
    content = value.metadata.plugin_data.content
    told = hparams_metadata.parse_experiment_plugin_data(content)
    for info in told.hparam_infos:
        info.differs = info.name in searched
    data = plugin_data_pb2.HParamsPluginData(experiment=told)
    value.metadata.CopyFrom(hparams_metadata.create_summary_metadata(data))
    return [value]


def session_start(params: Mapping[str, Any], group: str) -> Iterable[Value]:
    """A run's hyperparameters; runs of one group are shown as one."""
    plain = {name: _plain(value) for name, value in params.items()}
    return summary_v2.hparams_pb(plain, trial_id=group).value  # type: ignore[no-any-return]


def session_end(failed: bool) -> Iterable[Value]:
    """How a run ended."""
    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    data = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status)
    )
    return [
        Value(
            tag=hparams_metadata.SESSION_END_INFO_TAG,
            metadata=hparams_metadata.create_summary_metadata(data),
            tensor=hparams_metadata.NULL_TENSOR,
        )
    ]


def layout(bands: Mapping[str, tuple[str, str]]) -> Iterable[Value]:
    """The Custom Scalars page: each of these tags with the band between two others."""
    charts = [
        layout_pb2.Chart(
            title=tag,
            margin=layout_pb2.MarginChartContent(
                series=[layout_pb2.MarginChartContent.Series(value=tag, lower=low, upper=high)]
            ),
        )
        for tag, (low, high) in bands.items()
    ]
    page = layout_pb2.Layout(
        category=[layout_pb2.Category(title="Mean and range over the seeds", chart=charts)]
    )
    return [
        Value(
            tag=layout_metadata.CONFIG_SUMMARY_TAG,
            metadata=layout_metadata.create_summary_metadata(),
            tensor=tensor_util.make_tensor_proto(page.SerializeToString()),
        )
    ]


def _domain(knob: Knob) -> summary_v2.Domain | None:
    """Which values there are; None where that would be too many to say."""
    otherwise = [knob.otherwise] if isinstance(knob, Searched) and knob.when else []
    if None in otherwise:
        return None
    match knob:
        case IntRange():
            ends = (knob.low, knob.high, *otherwise)
            return summary_v2.IntInterval(min(ends), max(ends))
        case FloatRange():
            ends = (knob.low, knob.high, *otherwise)
            return summary_v2.RealInterval(float(min(ends)), float(max(ends)))
        case Layers():
            return None
        case Choices():
            values = [_plain(choice) for choice in dict.fromkeys((*knob.choices, *otherwise))]
        case _:
            values = [_plain(knob)]
    if any(isinstance(value, float) for value in values):
        values = [float(value) for value in values]
    return summary_v2.Discrete(values)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
