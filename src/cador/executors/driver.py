"""The program ``run`` of a job folder: a POSIX shell script that drives the steps. Pure text, the same everywhere.

It needs a shell, ``/proc`` and, for outputs handed from step to step, ``head``; times, marks and the end are made by
redirections alone, so that a job of one step costs one ``sh`` and one ``bash``. What it does, in order:

* creates ``marks/started`` exclusively (pid, start time in clock ticks, boot id). Who loses ends without a trace.
* runs each step in the working directory it was started in. ``marks/NN.start``, ``marks/NN.end`` (content: exit code,
  and ``cancel`` when the step was cancelled) and ``marks/NN.skip`` say when: the file's modification time.
* before each step reads ``stop`` (``cancel`` or ``timeout``) if it is there. After a time-out it waits at the FIFO
  ``gate`` until whoever stops the job has ended what the stopped step left behind; only then ``on_failure`` steps run.
* writes ``marks/exit``: exit code, number of the failed step or ``-``, reason of the stop or ``-``.

Names that begin with ``_cador_`` or ``__cador_`` belong to cador. Environment variables of the job reach the steps as
they reached the driver; a shell adds ``PWD``, and bash ``SHLVL``, ``_`` and ``OLDPWD``, as they always do.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from cador.ports.executor import FolderStep, JobFolder

OUTPUT_BYTES: Final = 65_536
"""Most bytes of one output value; longer ones are neither handed to later steps nor harvested."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_OURS: Final = frozenset(
    {"PATH", "HOME", "WORKSPACE", "RESULTS_DIR", "TMPDIR", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PWD"}
    | {"OLDPWD", "PPID", "OPTIND", "LINENO"}
)
_BASH: Final = frozenset({"bash"})
_POSIX: Final = frozenset({"sh", "dash", "ash", "ksh", "busybox"})

_HEAD: Final = r"""# Drives the steps of one job. Written by cador; names that begin with _cador_ are its own.
umask 022
trap : HUP INT QUIT TERM USR1 USR2
_cador_marks=$CADOR_JOB_DIR/marks _cador_stop='' _cador_code=0 _cador_failed=- _cador_gate=''
read -r _cador_stat </proc/self/stat
_cador_pid=${_cador_stat%% *}
set -f
set -- ${_cador_stat##*) }
set +f
_cador_born=${20}
set --
read -r _cador_boot </proc/sys/kernel/random/boot_id
set -C
{ printf '%s %s %s\n' "$_cador_pid" "$_cador_born" "$_cador_boot" >"$_cador_marks/started"; } 2>/dev/null || exit 0
set +C

_cador_look() {
    [ ! -e "$CADOR_JOB_DIR/stop" ] || read -r _cador_stop _cador_rest <"$CADOR_JOB_DIR/stop"
}

_cador_clock() { # hundredths of a second since boot
    read -r _cador_now _cador_rest </proc/uptime
    _cador_now=$((${_cador_now%.*} * 100 + 1${_cador_now#*.} - 100))
}

_cador_step() { # number, on_failure, tolerate, quiet, name, prelude or '', command ...
    _cador_n=$1 _cador_report=$2 _cador_tolerate=$3 _cador_quiet=$4 _cador_name=$5 _cador_prelude=$6
    shift 6
    _cador_look
    if [ "$_cador_stop" = timeout ]; then
        [ "$_cador_code" != 0 ] || _cador_code=124
        if [ "$_cador_report" = 1 ] && [ -z "$_cador_gate" ]; then
            read -r _cador_gate <"$CADOR_JOB_DIR/gate"
            _cador_gate=open
            _cador_look
        fi
    fi
    if [ "$_cador_stop" = cancel ] || { [ "$_cador_code" != 0 ] && [ "$_cador_report" = 0 ]; }; then
        true >"$_cador_marks/$_cador_n.skip"
        return
    fi
    true >"$_cador_marks/$_cador_n.start"
    if [ "$_cador_quiet" = 0 ]; then
        _cador_clock
        _cador_began=$_cador_now
        printf 'cador: step %s started\n' "$_cador_name"
    fi
    if [ -z "$_cador_prelude" ]; then
        "$@"
    elif [ -n "${BASH_ENV+x}" ]; then
        CADOR_BASH_ENV=$BASH_ENV BASH_ENV=$_cador_prelude "$@"
    else
        BASH_ENV=$_cador_prelude "$@"
    fi
    _cador_status=$?
    _cador_look
    if [ "$_cador_quiet" = 0 ]; then
        _cador_clock
        _cador_took=$((_cador_now - _cador_began))
        _cador_word=passed
        [ "$_cador_status" = 0 ] || _cador_word="failed with exit code $_cador_status"
        printf 'cador: step %s %s after %d.%02d s\n' \
            "$_cador_name" "$_cador_word" $((_cador_took / 100)) $((_cador_took % 100))
    fi
    if [ "$_cador_status" != 0 ] && [ "$_cador_tolerate" = 1 ] && [ -z "$_cador_stop" ]; then
        printf 'cador: step %s: exit code %s is tolerated\n' "$_cador_name" "$_cador_status"
    elif [ "$_cador_status" != 0 ] && [ "$_cador_code" = 0 ]; then
        _cador_code=$_cador_status _cador_failed=$_cador_n
    fi
    # Last, so that the step's lines come before its end.
    case $_cador_stop in
    cancel) printf '%s cancel\n' "$_cador_status" >"$_cador_marks/$_cador_n.end" ;;
    *) printf '%s\n' "$_cador_status" >"$_cador_marks/$_cador_n.end" ;;
    esac
}
"""

_TAKE: Final = r"""
_cador_take() { # what earlier steps left in the results folder is environment of the later ones
    for _cador_name in "$@"; do
        [ -f "$RESULTS_DIR/$_cador_name" ] || continue
        _cador_value=$(head -c %(bytes)d "$RESULTS_DIR/$_cador_name")
        if [ ${#_cador_value} -gt %(limit)d ]; then
            printf 'cador: output %%s is too long for a variable\n' "$_cador_name"
            continue
        fi
        while :; do
            case $_cador_value in
            '
'*) _cador_value=${_cador_value#?} ;;
            *) break ;;
            esac
        done
        export "$_cador_name=$_cador_value"
    done
}
"""

_TAIL: Final = r"""
_cador_look
[ "$_cador_stop" != timeout ] || [ "$_cador_code" != 0 ] || _cador_code=124
printf '%s %s %s\n' "$_cador_code" "$_cador_failed" "${_cador_stop:--}" >"$_cador_marks/exit"
exit 0
"""

_BASH_PRELUDE: Final = r"""# Read by bash before a script: at its end these variables of it become outputs.
if [[ -n ${CADOR_BASH_ENV+x} ]]; then BASH_ENV=$CADOR_BASH_ENV; unset CADOR_BASH_ENV; else unset BASH_ENV; fi
__cador_names=(%(names)s) __cador_dir=$RESULTS_DIR
declare -A __cador_was=()
for __cador_name in "${__cador_names[@]}"; do
    [[ -z ${!__cador_name+x} ]] || __cador_was[$__cador_name]=${!__cador_name}
done
unset __cador_name
__cador_write() { # keeps $?; a value that was there before the script does not replace a file
    local __cador_status=$? __cador_name
    for __cador_name in "${__cador_names[@]}"; do
        [[ -n ${!__cador_name+x} ]] || continue
        if [[ -e $__cador_dir/$__cador_name && ${__cador_was[$__cador_name]+x}${__cador_was[$__cador_name]-} \
            == "x${!__cador_name}" ]]; then continue; fi
        builtin printf %%s "${!__cador_name}" >"$__cador_dir/$__cador_name" || :
    done
    ((__cador_status == 0)) || set +e
    return $__cador_status
}
trap() { # a trap of the script on its exit runs between two writings: it may set outputs, and it may call exit
    builtin trap "$@" || return
    ((BASH_SUBSHELL == 0)) || return 0
    { __cador_arm; } 2>/dev/null
}
__cador_arm() {
    local -
    set +exu
    local __cador_trap
    __cador_trap=$(builtin trap -p EXIT)
    case $__cador_trap in
    *__cador_write*) return 0 ;;
    '') builtin trap '{ __cador_write; } 2>/dev/null' EXIT ;;
    *)
        eval "set -- $__cador_trap"
        builtin trap -- "{ __cador_write; } 2>/dev/null"$'\n'"$3"$'\n'"{ __cador_write || :; } 2>/dev/null" EXIT
        ;;
    esac
}
__cador_arm
[[ ! -r ${BASH_ENV-} ]] || . "$BASH_ENV"
"""


def is_variable(name: str) -> bool:
    """Whether an output *name* can travel as a shell variable; others travel by their file only."""
    return bool(_NAME.match(name)) and name not in _OURS and not name.startswith(("CADOR_", "_cador", "__cador", "LD_"))


def shell(names: Iterable[str]) -> str:
    """The shell that is to read ``run`` where the environment has variables of *names*.

    dash drops those that are no shell names, as ``a.b``; bash hands them on.
    """
    return "/bin/sh" if all(_NAME.match(name) for name in names) else "/bin/bash"


def number(index: int) -> str:
    """How step *index* is called in file names."""
    return f"{index:02d}"


def prelude(step: FolderStep) -> str:
    """Text bash reads before the script of *step* so that its ``outputs`` are written; ``""``: none is needed."""
    names = [name for name in step.outputs if is_variable(name)]
    if not names or PurePosixPath(step.interpreter[0]).name not in _BASH:
        return ""
    return _BASH_PRELUDE % {"names": " ".join(names)}


def script(step: FolderStep) -> str:
    """Content of the step's file. For bash it is the user's text, untouched; other shells get one line before it.

    POSIX shells have one EXIT trap: a script in one of them that sets its own writes no variables, only files.
    """
    names = [name for name in step.outputs if is_variable(name)]
    if not names or PurePosixPath(step.interpreter[0]).name not in _POSIX:
        return step.text
    was = " ".join(f'__cador_was_{name}="${{{name}-}}"' for name in names)
    write = " ".join(
        f'if [ -n "${{{name}+x}}" ] && {{ [ ! -e "$RESULTS_DIR/{name}" ] || '
        f'[ "${name}" != "$__cador_was_{name}" ]; }}; then printf %s "${name}" >"$RESULTS_DIR/{name}"; fi;'
        for name in names
    )
    return f"{was}; __cador_write() {{ set +ex; {write} }}; trap __cador_write 0; trap 'exit 143' TERM\n{step.text}"


def driver(job: JobFolder) -> str:
    """The text of ``run`` for *job*."""
    outputs = [name for name in job.outputs if is_variable(name)]
    for step in job.steps:
        outputs += [name for name in step.outputs if is_variable(name) and name not in outputs]
    taking = bool(outputs) and len(job.steps) > 1
    parts = [_HEAD]
    if taking:
        parts.append(_TAKE % {"bytes": OUTPUT_BYTES + 64, "limit": OUTPUT_BYTES})
    parts.append("\n")
    for index, step in enumerate(job.steps):
        if taking and index:
            parts.append(f"_cador_take {' '.join(outputs)}\n")
        parts.append(_call(index, step))
    parts.append(_TAIL)
    return "".join(parts)


def _call(index: int, step: FolderStep) -> str:
    flags = " ".join("1" if flag else "0" for flag in (step.on_failure, step.tolerate, step.quiet))
    name = shlex.quote(" ".join(step.name.split()))
    before = f'"$CADOR_JOB_DIR/steps/{number(index)}.pre"' if prelude(step) else "''"
    command = _words(step.interpreter)
    return f'_cador_step {number(index)} {flags} {name} {before} {command} "$CADOR_JOB_DIR/steps/{number(index)}"\n'


def _words(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)
