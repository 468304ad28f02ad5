# bash completion for sf: asks `sf __complete`, whose answers are lines of "value TAB description".
# shellcheck shell=bash

_sf() {
    # bash splits words at = : and @, which stand inside our selectors and key=value words: split the line ourselves.
    local line=${COMP_LINE:0:COMP_POINT} current broken value
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]} - 1]}
    # bash puts an answer in the place of what follows the last of its own word breaks.
    broken=${current%"${current##*[=:@]}"}

    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        if [[ $value == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "${current#"$broken"}")
            return
        fi
        [[ $value == *= ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("${value#"$broken"}")
    done < <("$1" __complete "${words[@]:1}" 2>/dev/null)
}

complete -F _sf sf
