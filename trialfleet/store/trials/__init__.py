"""The trial repository: every statement on Optuna's tables, and nobody else's.

Modules outside of `trialfleet.store` name no table of `public`. They call this package, which keeps
these promises for them:

- **Who may write.** A transaction carries one fence (`Database.transaction(fence)`), and the
  database itself (the trigger `fleet.guard`) refuses a write to a trial that is leased under
  another one, or to the rows of a trial that has finished. A process may hold several leases: each
  of its transactions, and each storage of Optuna's, obeys its own.
- **When.** A trial without a lease may be written by whoever has locked its row: a claim that
  starts it, the final stage that enqueues it, or whoever has just ended its lease in the same
  transaction.
- **Atomicity.** A function that takes a `connection` is a part of the caller's transaction: all of
  the transaction is stored, or nothing.
- **Repeats.** Every write may be repeated after a lost reply: it stores the same row again.
- **Locks** are always taken in the order study, trial, attempt.

`reading` has the questions, `life` what claims and endings write, `optuna_rows` what goes through
Optuna's own code because it decides how a row looks.
"""

from __future__ import annotations
