"""`refusion completion SHELL`: a script with which a shell completes commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from refusion import cli
from refusion.cli.common import Parser, show
from refusion.config.option_files import option_files
from refusion.weights import shipped_weights

SHELLS = ("bash", "zsh", "fish")
_ABOUT = """\
Write a script with which the shell completes the commands and options of refusion.

bash:  mkdir -p ~/.local/share/bash-completion/completions
       refusion completion bash > ~/.local/share/bash-completion/completions/refusion
zsh:   add this line to ~/.zshrc: source <(refusion completion zsh)
fish:  mkdir -p ~/.config/fish/completions
       refusion completion fish > ~/.config/fish/completions/refusion.fish

A new terminal completes with the Tab key."""
_BASH = """\
_refusion() {
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" options=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "%(commands)s" -- "$current"))
        return
    fi
    case "$before" in
%(values)s
    esac
    case "${COMP_WORDS[1]}" in
%(options)s
    esac
    if [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
        return
    fi
    case "${COMP_WORDS[1]}" in
%(names)s
    esac
}
complete -o default -F _refusion refusion
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def run(argv: list[str]) -> int:
    """Write the script of a shell to stdout; returns 0."""
    shell = build_parser().parse_args(argv).shell
    parsers = {name: _command_parser(name) for name in [*cli.TASKS, *cli.COMMANDS]}
    script = _fish(parsers) if shell == "fish" else _bash(parsers)
    show(*((_ZSH if shell == "zsh" else "") + script).splitlines())
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion completion",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def _command_parser(name: str) -> argparse.ArgumentParser:
    module = cli.import_command(name)
    return module.build_parser(name) if name in cli.TASKS else module.build_parser()


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options of a parser that its help shows, without its positional arguments."""
    options = [action for action in parser._actions if action.option_strings]
    return [option for option in options if option.help != argparse.SUPPRESS]


def _choices(parsers: Mapping[str, argparse.ArgumentParser]) -> dict[str, list[str]]:
    """The values of the options that take one of a few values, by the name of the option."""
    found = {"--task": sorted(shipped_weights())}
    for parser in parsers.values():
        for action in filter(lambda action: action.choices, _options(parser)):
            words = list(map(str, action.choices))  # a task may have some of the values only
            for name in action.option_strings:
                found[name] = list(dict.fromkeys([*found.get(name, []), *words]))
    return found


def _names(parsers: Mapping[str, argparse.ArgumentParser]) -> dict[str, list[str]]:
    """Names that a command takes without an option, by the command."""
    found = {"init": list(option_files()), "info": sorted(shipped_weights())}
    for name, parser in parsers.items():
        for action in parser._actions:
            if action.choices and not action.option_strings:
                found[name] = list(map(str, action.choices))
    return found


def _bash(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    values = [
        f'        {name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$current")); return ;;'
        for name, words in _choices(parsers).items()
    ]
    options = [
        f'        {name}) options="{" ".join(n for a in _options(p) for n in a.option_strings)}" ;;'
        for name, p in parsers.items()
    ]
    names = [
        f'        {name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$current")) ;;'
        for name, words in _names(parsers).items()
    ]
    lists = {"values": values, "options": options, "names": names}
    lists = {key: "\n".join(lines) for key, lines in lists.items()}
    return _BASH % {"commands": " ".join(parsers), **lists}


def _fish(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    lines, choices = [], _choices(parsers)
    for name, text in {**cli.TASKS, **cli.COMMANDS}.items():
        words = f"complete -c refusion -n __fish_use_subcommand -a {name}"
        lines.append(f"{words} -d {_quoted(text)}")
    for name, words in _names(parsers).items():
        seen = f"complete -c refusion -n '__fish_seen_subcommand_from {name}'"
        lines.append(f"{seen} -a {_quoted(' '.join(words))}")
    for name, parser in parsers.items():
        for action in _options(parser):
            long = [option for option in action.option_strings if option.startswith("--")]
            for option in long:
                words = f"complete -c refusion -n '__fish_seen_subcommand_from {name}'"
                words += f" -l {option[2:]} -d {_quoted(_first_words(action.help or ''))}"
                listed = choices.get(option)
                lines.append(words + (f" -x -a {_quoted(' '.join(listed))}" if listed else ""))
    return "\n".join(lines)


def _first_words(text: str) -> str:
    """The beginning of a help text, up to its first punctuation mark."""
    return text.replace("%%", "%").split(";")[0].split(" (")[0].split(", ")[0]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
