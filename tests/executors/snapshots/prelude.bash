# Read by bash before a script: at its end these variables of it become outputs.
if [[ -n ${CADOR_BASH_ENV+x} ]]; then BASH_ENV=$CADOR_BASH_ENV; unset CADOR_BASH_ENV; else unset BASH_ENV; fi
__cador_names=(IMAGE) __cador_dir=$RESULTS_DIR
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
        builtin printf %s "${!__cador_name}" >"$__cador_dir/$__cador_name" || :
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
