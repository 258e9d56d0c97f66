# Drives the steps of one job. Written by cador; names that begin with _cador_ are its own.
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

_cador_take() { # what earlier steps left in the results folder is environment of the later ones
    for _cador_name in "$@"; do
        [ -f "$RESULTS_DIR/$_cador_name" ] || continue
        _cador_value=$(head -c 65600 "$RESULTS_DIR/$_cador_name")
        if [ ${#_cador_value} -gt 65536 ]; then
            printf 'cador: output %s is too long for a variable\n' "$_cador_name"
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

_cador_step 00 0 0 0 'fetch it'"'"'s' '' /bin/sh -e "$CADOR_JOB_DIR/steps/00"
_cador_take IMAGE PKG_FILE
_cador_step 01 0 0 0 'build all' "$CADOR_JOB_DIR/steps/01.pre" bash "$CADOR_JOB_DIR/steps/01"
_cador_take IMAGE PKG_FILE
_cador_step 02 1 1 1 report '' bash "$CADOR_JOB_DIR/steps/02"

_cador_look
[ "$_cador_stop" != timeout ] || [ "$_cador_code" != 0 ] || _cador_code=124
printf '%s %s %s\n' "$_cador_code" "$_cador_failed" "${_cador_stop:--}" >"$_cador_marks/exit"
exit 0
