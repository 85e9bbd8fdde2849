"""The experiment's configuration: frozen, checked, and changed in one way only.

A study file, `--set` and the parameters of a trial all name settings by dotted keys
(`training.learning_rate.generator`) and all go through `override`. A key that does not exist is refused with the
nearest one that does; a value of the wrong type is refused with what is allowed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, ValidationInfo, field_validator

from diagram_ray.errors import ConfigError
from diagram_ray.setting_keys import explanation, set_key

C = TypeVar("C", bound="Frozen")
Pair = Annotated[tuple[float, float], Strict(False)]


class Frozen(BaseModel):
    """Base of all configuration: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


class DataConfig(Frozen):
    """The target and the classes that a study takes from a prepared dataset."""

    target: str = "label"
    """Column of the manifest that is to be predicted."""
    classes: dict[str, list[str]] | None = None
    """Class name -> values of the target column; images with other values are left out. None: the dataset's own."""


BEFORE = {"pixels": "range", "reduction": 16}
"""What settings of the model were before they were settings."""
FROM_WEIGHTS = ("features", "classifier", "pretrained", "reduction", "width", "norm", "pixels")
"""Settings of the model that weights of F and E cannot be loaded without, and that are taken from where these are."""


class MultiInstanceConfig(Frozen):
    """How `model.classifier: multi-instance` is trained (Zhu et al. 2017). The numbers are guesses: no data set of ours
    has chosen them."""

    rule: Literal["max", "assigned", "sparse"] = "sparse"
    """Which positions the loss looks at: the likeliest; all, of which the likeliest `positions` have the image's class
    and the others the first one; or the likeliest, with a price on the probabilities of all."""
    positions: int = Field(default=4, ge=1)
    """The number k of positions that label assignment gives the image's class."""
    sparsity: float = Field(default=1e-4, ge=0.0)
    """The price mu of the sum of all positions' probabilities."""


class ModelConfig(Frozen):
    """The four networks (paper Sect. 2.2), or others in the place of F and E."""

    features: Literal["paper", "residual", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"] = "paper"
    """F: the paper's four layers, or the beginning of a residual network or of an EfficientNet-Lite, down to 1/16 of
    the image."""
    classifier: Literal["paper", "backbone", "linear", "multi-instance"] = "paper"
    """E: the paper's six residual blocks; the rest of the network that F is the beginning of (of the paper's F the same
    six blocks); an output layer alone; or that of Zhu et al. 2017, for two classes."""
    pretrained: bool | str = False
    """Weights that F, and E as its `backbone`, start with. True: of ImageNet, by the extra `pretrained`; or a
    .safetensors file, by its absolute path or URI. For an EfficientNet-Lite, which then keeps its statistics."""
    multi_instance: MultiInstanceConfig = MultiInstanceConfig()
    reduction: Literal[4, 16] = 4
    """How much smaller than an image the maps of the paper's four layers are, which the paper leaves open. On masses of
    CBIS-DDSM 4 was better in each of three folds; elsewhere it is a guess. Other networks reduce by 16."""
    width: int = Field(default=32, ge=4, multiple_of=4)
    """Channels of the first layer of F, the paper's or the residual one. E ends in 8 times as many. An
    EfficientNet-Lite has its own."""
    generator_width: int = Field(default=32, ge=4, multiple_of=4)
    """Channels of G's last hidden layer; G starts with 8 times as many."""
    latent_size: int = Field(default=100, ge=1)
    """The length n of z ~ U[-1, 1]^n."""
    norm: Literal["weight-standardised", "group", "batch"] = "weight-standardised"
    """The normalisation. `weight-standardised`: group norm after convolutions of standardised weights. `group`: group
    norm alone, which hardly learned real films. `batch` mixes the samples of a batch."""
    pixels: Literal["breast", "range"] = "breast"
    """What F sees: `breast` brings each image's and patch's breast to mean 0 and variance 1, with the background at 0;
    `range` leaves pixels as they are prepared, in [-1, 1] with the background at -1."""
    gan: bool = True
    """False: the variant without G and without the real/fake neuron (Sect. 3.1)."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout before E's output layer."""
    num_classes: int = Field(default=2, ge=2)
    """The number of classes m, set from the data."""
    patch_size: int = Field(default=32, ge=16, multiple_of=16)
    """The side s of patches in pixels, set from the data."""

    @field_validator("pretrained")
    @classmethod
    def _has_weights(cls, value: bool | str, info: ValidationInfo) -> bool | str:
        features = info.data.get("features", "efficientnet-lite0")
        if value and features in ("paper", "residual"):
            raise ValueError(f"there are weights for EfficientNet-Lite 0 to 2, and model.features is {features!r}")
        if isinstance(value, str) and not (value.endswith(".safetensors") and (value[0] == "/" or "://" in value)):
            raise ValueError("must be true, false, or an absolute path or URI that ends in .safetensors")
        return value

    @field_validator("num_classes")
    @classmethod
    def _two_instances(cls, value: int, info: ValidationInfo) -> int:
        if value != 2 and info.data.get("classifier") == "multi-instance":
            raise ValueError("model.classifier: multi-instance is for two classes")
        return value


class LearningRates(Frozen):
    """One learning rate for each gradient step of Algorithm 1."""

    discriminator: float = Field(default=3e-4, gt=0.0)
    """Learning rate of the step on (theta_f, theta_d)."""
    classifier: float = Field(default=3e-4, gt=0.0)
    """Learning rate of the step on (theta_f, theta_e)."""
    generator: float = Field(default=3e-4, gt=0.0)
    """Learning rate of the step on theta_g."""


class AugmentConfig(Frozen):
    """Augmentation drawn anew for every batch (paper Sect. 3)."""

    rotation: float = Field(default=15.0, ge=0.0, le=180.0)
    """Largest rotation of images and patches, in degrees."""
    mirror: bool = True
    """Mirror across the y axis with probability 1/2."""
    scale: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Largest relative change of size."""
    shift: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Largest shift, as a part of height and width."""


class CollapseConfig(Frozen):
    """When the GAN of a fold counts as collapsed, which ends the trial: after a warm-up, a sign epoch after epoch.

    The limits are a tenth and a hundredth of the lowest figures that were seen in ordinary trainings on made-up
    mammograms.
    """

    diversity: float = Field(default=1e-3, ge=0.0, le=1.0)
    """The part of the real patches' distances from each other below which generated patches count as alike. 0:
    never."""
    loss_ratio: float = Field(default=1e-5, ge=0.0)
    """The ratio of D's real/fake loss (Eq. 5) to G's loss (Eq. 4) below which G has no chance. 0: never."""
    warmup_epochs: int = Field(default=10, ge=0)
    """The first epochs, in which nothing is a sign: G begins with patches that are nearly the same."""
    patience: int = Field(default=5, ge=1)
    """Epochs in a row that show the sign."""


class TrainingConfig(Frozen):
    """Algorithm 1 and how long it runs."""

    epochs: int = Field(default=30, ge=1)
    """One epoch draws every training image once in the inner steps, whatever k is."""
    k: int = Field(default=1, ge=1)
    """Inner steps for each step of the generator."""
    patch_batch: int = Field(default=32, ge=1)
    """Patches (and random vectors) in a minibatch, m."""
    image_batch: int = Field(default=16, ge=1)
    """Images in a minibatch, n."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The optimizer of all gradient steps: Adam, or stochastic gradient descent without momentum."""
    learning_rate: LearningRates = LearningRates()
    betas: Pair = (0.5, 0.999)
    """Adam's decay rates."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rates over the epochs; `cosine` ends at zero after `epochs`."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs in which the learning rates rise, in equal steps, to their values; fewer than `epochs`."""
    clip_norm: float | None = Field(default=None, gt=0.0)
    """Largest norm of the gradient of each gradient step; a larger gradient is scaled down to it."""
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    """If above 0, the model that is scored and kept has the exponential moving average of the weights, with this decay
    an image step."""
    validation_part: float = Field(default=0.0, ge=0.0, le=0.5)
    """Part of the training patients that is set aside to choose the epoch whose weights are kept. 0: the last one."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better score on the validation part after which training stops."""
    balance_classes: bool = True
    """Draw the classes of each minibatch of patches and images in equal numbers."""
    augment: AugmentConfig = AugmentConfig()
    multi_task: bool = True
    """Whether patches, whole images and the GAN are trained together. False: whole images only, by the step on L_i (Eq.
    7), without patches and GAN: the paper's supervised fine-tuning (Sect. 2.4)."""
    freeze: int = Field(default=0, ge=0, le=4)
    """F's first levels that keep the weights they start with; 4: all of F. A level is a layer of the paper's F; of
    others the blocks between two halvings of the maps."""
    features_rate: float = Field(default=1.0, gt=0.0)
    """Factor on F's learning rates; below 1 its weights stay nearer to those they start with."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The precision of the networks' arithmetic in training; weights, optimizers and scoring are always float32.
    `auto`: bfloat16 on GPUs that have it, float32 elsewhere. `bfloat16` is for GPUs only."""
    deterministic: bool = False
    """Whether GPUs give the same weights to the last bit when a training is run again, at some cost in speed. CPUs do
    that anyway."""
    compile: Literal["none", "default", "cuda-graphs"] = "none"
    """Training through `torch.compile`; `cuda-graphs`, on GPUs only, also replays each step's kernels as one. Compiling
    takes minutes for each configuration, and the last digits of the weights become others."""
    collapse: CollapseConfig = CollapseConfig()
    seed: int = Field(default=0, ge=0)
    """Seed of weights, minibatches, noise and augmentation."""

    @field_validator("warmup_epochs")
    @classmethod
    def _below_epochs(cls, value: int, info: ValidationInfo) -> int:
        if value >= info.data.get("epochs", value + 1):
            raise ValueError(f"must be below training.epochs, which is {info.data['epochs']}")
        return value

    @field_validator("patience")
    @classmethod
    def _needs_validation(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("validation_part", 1.0):
            raise ValueError("needs a training.validation_part above 0 to be measured on")
        return value


class ExperimentConfig(Frozen):
    """All that decides the weights that come out, given the data."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()


def build(kind: type[C], values: Mapping[str, Any], where: str) -> C:
    """A `kind` from nested `values`. `where` names their source in messages. Raises ConfigError."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explanation(error, dotted_keys(kind), where)) from None


def build_recorded(values: Mapping[str, Any], where: str) -> ExperimentConfig:
    """The configuration of a study or a model on disk, where every setting of its day is written.

    A setting that is not there came later, and gets the value that does what was done before it. Raises ConfigError.
    """
    recorded = dict(values)
    if isinstance(model := recorded.get("model"), Mapping):
        recorded["model"] = {**BEFORE, **model}
    return build(ExperimentConfig, recorded, where)


def override(config: C, values: Mapping[str, Any], where: str) -> C:
    """A copy of `config` with dotted (or nested) keys set to new values. Raises ConfigError."""
    nested, keys = config.model_dump(), dotted_keys(type(config))
    for key, value in values.items():
        set_key(nested, key, value, keys, where)
    return build(type(config), nested, where)


def flatten(config: Frozen) -> dict[str, Any]:
    """Dotted key -> value, for every setting."""
    flat: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Frozen):
            flat |= {f"{name}.{key}": inner for key, inner in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def dotted_keys(kind: type[Frozen]) -> list[str]:
    """Every dotted key that `kind` has."""
    keys = []
    for name, field in kind.model_fields.items():
        section = section_of(field.annotation)
        keys += [f"{name}.{key}" for key in dotted_keys(section)] if section else [name]
    return keys


def section_of(annotation: Any) -> type[Frozen] | None:
    """The configuration class of a field that is a section of its own; None for a single setting."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Frozen) else None
