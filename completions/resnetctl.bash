# bash completion for resnetctl
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
