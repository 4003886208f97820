"""The name of a sample event, as an option's value."""

import click
from click.shell_completion import CompletionItem

from callbacks import samples
from shared.did_you_mean import did_you_mean


class SampleName(click.ParamType[str]):
    """One of `callbacks.samples.NAMES`."""

    name = "sample"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with the one that was meant."""
        if value not in samples.NAMES:
            meant = did_you_mean(value, samples.NAMES)
            self.fail(f"No sample is called {value!r}{meant}; there are: {', '.join(samples.NAMES)}.", param, ctx)
        return value

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 # click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that begin so."""
        return [CompletionItem(name) for name in samples.NAMES if name.startswith(incomplete)]
