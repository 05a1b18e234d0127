"""`resnetctl completion SHELL`, and the answer to a TAB.

The scripts contain no list of commands: they ask the program at every TAB. The protocol is our own, since typer's
cannot say "complete files here", splits `--recipe=na` wrongly in some shells and passes help texts through `eval`:

- request: `_RESNETCTL_COMPLETE` is the shell; `_RESNETCTL_WORDS` the finished words, one per line, with the program's
  name first, and `_RESNETCTL_WORD` the word at the cursor. bash sends its unsplit line in `_RESNETCTL_LINE` instead,
  since it splits words at `=` and `:`, and the characters it splits at in `_RESNETCTL_BREAKS`;
- response: one line per offer, `kind TAB value TAB help`. Kind `plain` is a value; `file` and `dir` have none: the
  shell offers its own files or folders.
"""

import os
import sys
from typing import Annotated, Any

import typer

from resnetctl.cli import complete, help
from resnetctl.cli.typer_private import completion_of, path_kind, split_words
from resnetctl.errors import UsageError, did_you_mean, printable

VARIABLE = "_RESNETCTL_COMPLETE"

_BASH = r"""# bash completion for resnetctl
_resnetctl() {
    local current=${COMP_WORDS[COMP_CWORD]} line kind value
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%$'\t'*} value=${line#*$'\t'} value=${value%%$'\t'*}
        case $kind in
            file) compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            plain)
                [[ $current == [\"\']* ]] || printf -v value %q "$value"
                COMPREPLY+=("$value")
                ;;
        esac
    done < <(_RESNETCTL_COMPLETE=bash _RESNETCTL_LINE="${COMP_LINE:0:COMP_POINT}" \
        _RESNETCTL_BREAKS="$COMP_WORDBREAKS" "$1" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -F _resnetctl resnetctl
"""

# An autoloaded file is the function's body: it must complete at its first call, but only define it when sourced.
_ZSH = r"""#compdef resnetctl
# zsh completion for resnetctl
_resnetctl() {
    local line kind value help
    local -a before=("${(@Q)words[1,CURRENT-1]}") offers keys
    local current="${(Q)PREFIX}"
    local program="${before[1]:-resnetctl}"
    [[ $PREFIX == --*=* ]] && compset -P '--[^=]#='
    for line in "${(@f)$(_RESNETCTL_COMPLETE=zsh _RESNETCTL_WORDS="${(F)before}" _RESNETCTL_WORD="$current" \
        "${program/#\~/$HOME}" 2>/dev/null)}"; do
        kind="${line%%$'\t'*}" value="${line#*$'\t'}" help="${line##*$'\t'}"
        value="${${value%%$'\t'*}//:/\\:}${help:+:$help}"
        case $kind in
            file) _files ;;
            dir) _files -/ ;;
            plain) if [[ $value == *= ]]; then keys+=("$value"); else offers+=("$value"); fi ;;
        esac
    done
    (( ${#offers} )) && _describe resnetctl offers
    (( ${#keys} )) && _describe resnetctl keys -S ''
}

if [[ ${funcstack[1]} == _resnetctl ]]; then
    _resnetctl "$@"
else
    compdef _resnetctl resnetctl
fi
"""

_FISH = r"""# fish completion for resnetctl
function __resnetctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -lx _RESNETCTL_COMPLETE fish
    set -lx _RESNETCTL_WORDS (string join \n -- $words | string collect)
    set -lx _RESNETCTL_WORD "$current"
    set -l option (string match -r -- '^--[^=]*=' "$current")
    set -l path (string replace -r -- '^--[^=]*=' '' "$current")
    for line in ($words[1] 2>/dev/null)
        set -l parts (string split -m 1 \t -- $line)
        switch $parts[1]
            case file
                for offer in (__fish_complete_path "$path")
                    echo -- "$option$offer"
                end
            case dir
                for offer in (__fish_complete_directories "$path" '')
                    echo -- "$option$offer"
                end
            case plain
                echo -- "$parts[2]"
        end
    end
end

complete --command resnetctl --no-files --arguments '(__resnetctl_complete)'
"""

_POWERSHELL = r"""# PowerShell completion for resnetctl
Register-ArgumentCompleter -Native -CommandName resnetctl -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object {
            if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value } else { "$_" }
        })
    $program = $commandAst.GetCommandName()
    try {
        $Env:_RESNETCTL_COMPLETE = 'powershell'
        $Env:_RESNETCTL_WORDS = $words -join "`n"
        $Env:_RESNETCTL_WORD = "$wordToComplete"
        & $program 2>$null | ForEach-Object {
            $kind, $value, $help = $_ -split "`t", 3
            if ($kind -eq 'plain') {
                if (-not $help) { $help = $value }
                $text = if ($value -match '[\s''`$&;|(){}]') { "'" + $value.Replace("'", "''") + "'" } else { $value }
                [System.Management.Automation.CompletionResult]::new($text, $value, 'ParameterValue', $help)
            }
        }
    }
    finally {
        foreach ($name in 'COMPLETE', 'WORDS', 'WORD') {
            Remove-Item "Env:_RESNETCTL_$name" -ErrorAction SilentlyContinue
        }
    }
}
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL, "pwsh": _POWERSHELL}
assert tuple(_SCRIPTS) == complete.SHELLS


def script(shell: str) -> str:
    """The completion script of `shell`. Raises UsageError for any other."""
    if shell in _SCRIPTS:
        return _SCRIPTS[shell]
    close = did_you_mean(shell, complete.SHELLS)
    known = f"the shells are {', '.join(complete.SHELLS)}"
    raise UsageError(
        f"no completion for the shell {printable(shell)!r}", hint=f"did you mean {close}? {known}" if close else known
    )


def completion(
    shell: Annotated[
        str,
        typer.Argument(metavar="SHELL", autocompletion=complete.shells, help="bash, zsh, fish, powershell or pwsh."),
    ],
) -> None:
    """Print the script that makes TAB complete commands, options and values.

    \b
    bash, in ~/.bashrc:
      eval "$(resnetctl completion bash)"
    zsh, in ~/.zshrc after compinit (or into a file _resnetctl in a folder of $fpath):
      eval "$(resnetctl completion zsh)"
    fish:
      resnetctl completion fish > ~/.config/fish/completions/resnetctl.fish
    PowerShell, in $PROFILE:
      resnetctl completion powershell | Out-String | Invoke-Expression
    """
    sys.stdout.write(script(shell))


def respond(command: Any, shell: str) -> int:
    """Write the offers for the request in the environment; `command` is the root of the tree."""
    if shell == "bash":
        # the mark preserves an empty last word, and one after a space inside quotes
        *words, word = split_words(os.environ.get("_RESNETCTL_LINE", "") + "\x01")
        word = word.rstrip("\x01")
    else:
        words = os.environ.get("_RESNETCTL_WORDS", "").split("\n")
        word = os.environ.get("_RESNETCTL_WORD", "")
    option = word.partition("=")[0] + "=" if word.startswith("--") and "=" in word else ""
    for kind, value, help_text in _offers(command, words[1:], word):
        if kind != "plain":
            value = ""
        elif shell == "bash":
            value = (option + value)[_unreplaced(word) :]
        elif shell != "zsh":
            value = option + value
        if value == printable(value) and (value or kind != "plain"):
            sys.stdout.write(f"{kind}\t{value}\t{printable(help_text)}\n")
    return 0


def _unreplaced(word: str) -> int:
    """The number of leading characters of `word` that bash counts as other words, and so leaves unchanged."""
    breaks = set(os.environ.get("_RESNETCTL_BREAKS", "")) & set("=:")
    return max((word.rfind(c) + 1 for c in breaks), default=0)


def _offers(root: Any, words: list[str], word: str) -> list[tuple[str, str, str]]:
    """`(kind, value, help)` of everything that may complete `word`."""
    found = completion_of(root, words, word)
    if found is None:
        return []
    ctx, target, begun = found
    kind = path_kind(target)
    if kind is not None:
        return [(kind, "", "")]
    if isinstance(target, help.Group) and not begun.startswith("-"):
        return [("plain", name, summary) for _, name, summary in target.rows() if name.startswith(begun)]
    is_command = hasattr(target, "params")
    items = target.shell_complete(ctx, begun)
    is_weights = getattr(target, "name", None) == "weights"
    if not items and not is_command and not is_weights and (begun.startswith((".", "~")) or "/" in begun):
        return [("file", "", "")]  # runs and recipes can be files too
    if not items and not begun and is_command:
        items = target.shell_complete(ctx, "-")
    offers = [("plain", i.value, help.first_sentence(i.help or "")) for i in items]
    if is_weights and not begun.startswith("hf:"):  # a file or a name
        offers.append(("file", "", ""))
    return offers
