"""`overnight completion`: what a shell needs to complete our commands and options."""

import click

from overnight.cli.context import Cli

VARIABLE = "_OVERNIGHT_COMPLETE"  # click answers a shell that sets it


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL; for bash: eval "$(overnight completion bash)"."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    found = ctx.find_object(Cli) or ctx.fail("no context")
    script = kind(ctx.find_root().command, {}, "overnight", VARIABLE).source()
    found.emit({"shell": shell, "script": script}, script)
