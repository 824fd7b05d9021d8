"""What is searched: the settings of the network with what each may be."""

from __future__ import annotations

from collections.abc import Mapping

from dlmine_spark.config import TEXTBOOK, Span, TrainingConfig
from dlmine_spark.tuning.trials import Params

Space = Mapping[str, Span]


def search_space(asked: Space | None, training: TrainingConfig) -> dict[str, Span]:
    """The space asked for, else the default one around the configured settings."""
    return dict(default_space(training) if asked is None else asked)


def default_space(training: TrainingConfig) -> Space:
    """Seven settings that usually matter, without those that a preset brings with it.

    What steps ``history`` counts differs, so it is relative to the configured. No batch is smaller than the number of
    ranks, or one of them would get nothing.
    """
    histories = sorted({max(2, training.history // 2), training.history, 2 * training.history})
    batches = [size for size in (32, 64, 128, 256) if size >= training.workers] or [training.batch_size]
    space = {
        "learning_rate": Span(low=5e-4, high=2e-2, log=True),
        "hidden": Span(low=16, high=128, log=True),
        "layers": Span(choices=(1, 2)),
        "dropout": Span(low=0.0, high=0.4),
        "batch_size": Span(choices=tuple(batches)),
        "history": Span(choices=tuple(histories)),
        "weight_decay": Span(low=1e-6, high=1e-2, log=True),
    }
    fixed = TEXTBOOK if training.preset == "textbook" else {}
    return {key: span for key, span in space.items() if key not in fixed}


def configured(space: Space, training: TrainingConfig) -> Params:
    """The configured values of the settings that are searched."""
    return {key: getattr(training, key) for key in space}


def shortest_history(space: Space, training: TrainingConfig) -> int:
    """The least ``history`` of any trial, that of the configured settings included."""
    return (
        min(training.history, *(int(one) for one in space["history"].extremes))
        if "history" in space
        else (training.history)
    )


def with_params(training: TrainingConfig, params: Params) -> TrainingConfig:
    """The settings with some of them replaced.

    Raises:
        pydantic.ValidationError: one is not legal.
    """
    return TrainingConfig.model_validate({**training.model_dump(), **params})


def is_whole(key: str) -> bool:
    """Whether a setting is a whole number."""
    return TrainingConfig.model_fields[key].annotation is int
