"""The Jinja environment of the templates."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """The environment of the templates: whatever is put into a page is escaped, and what is missing is an error."""
    return Environment(
        loader=PackageLoader("diagram_ray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
