"""Options of the training loop; every `auto` is resolved in `recipe/defaults.py` and written to the run folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunesmith.plugin import Options

Auto = Literal["auto"]


class TrainOptions(Options):
    """How the model is trained. Counts of steps are optimizer updates; batch sizes are examples."""

    epochs: Annotated[float, Field(gt=0, le=10_000)] | Auto = Field(
        "auto", description="passes over the training examples"
    )
    steps: int | None = Field(None, gt=0, le=1_000_000_000, description="updates in all; instead of epochs")
    batch_size: Annotated[int, Field(gt=0, le=65_536)] | Auto = Field("auto", description="examples an update")
    micro_batch_size: Annotated[int, Field(gt=0, le=65_536)] | Auto = Field(
        "auto", description="examples a forward pass"
    )
    checkpoint_activations: bool | Auto = Field(
        "auto", description="compute a block's activations twice instead of keeping them; less memory, a third slower"
    )
    learning_rate: Annotated[float, Field(gt=0, le=10)] | Auto = Field("auto", description="highest learning rate")
    head_learning_rate: Annotated[float, Field(gt=0, le=10)] | Auto = Field(
        "auto", description="highest rate of the head"
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] | Auto = Field(
        "auto", description="AdamW decay; never on norms and biases"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="the rate's course after warm-up")
    warmup: float = Field(0.06, ge=0, lt=1, description="share of all steps with a rising rate")
    max_gradient_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0: never")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of a block is this times the rate of the one above")
    average: float = Field(
        0.0, ge=0, lt=1, description="decay of the running average of weights that is delivered, such as 0.99; 0: none"
    )
    evaluate_every: Annotated[int, Field(gt=0)] | Auto = Field(
        "auto", description="steps between evaluations; auto: once an epoch"
    )
    checkpoint_every: Annotated[int, Field(gt=0)] | Auto = Field("auto", description="steps between checkpoints")
    early_stopping: int | None = Field(None, gt=0, description="stop after so many evaluations without a better score")
    keep_best: bool = Field(True, description="deliver the best evaluated state, not the last")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="arithmetic; auto: by the processor")
    threads: Annotated[int, Field(gt=0, le=1024)] | Auto = Field(
        "auto", description="CPU threads; recorded, since they change the bits"
    )
    workers: Annotated[int, Field(ge=0, le=256)] | Auto = Field(
        "auto", description="processes that make batches ahead; auto: 0 on a CPU. Changes no bit"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of new weights, order of data, and dropout")
    tensorboard: bool = Field(False, description="also write TensorBoard logs into the run folder")

    @model_validator(mode="after")
    def _one_length(self) -> TrainOptions:
        if self.steps is not None and self.epochs != "auto":
            raise ValueError("give epochs or steps, not both")
        return self
