"""diagram_ray: distributed hyperparameter search and honest cross-validation for DiaGRAM (Shams et al. 2018).

`Study` reads a study's folder, `Predictor` applies trained models to mammograms, `DiaGRAM` is the network. Each is
imported when it is asked for: `import diagram_ray` loads neither PyTorch nor Ray. The commands are submodules of the
same names as their verbs: `diagram_ray.predict` is a module, `diagram_ray.predict.load(folder)` gives a `Predictor`.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["DiaGRAM", "Predictor", "Study", "__version__"]

if TYPE_CHECKING:
    from diagram_ray.models import DiaGRAM
    from diagram_ray.results import Study
    from diagram_ray.training.inference.predictor import Predictor
else:
    _MODULES = {
        "DiaGRAM": "diagram_ray.models",
        "Predictor": "diagram_ray.training.inference.predictor",
        "Study": "diagram_ray.results",
    }

    def __getattr__(name: str) -> object:
        """Imports a public class on first use. Raises AttributeError for a name that there is not."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = getattr(import_module(_MODULES[name]), name)
        return globals()[name]

    def __dir__() -> list[str]:
        """What there is, the classes that are not imported yet included."""
        return sorted({*globals(), *__all__})
