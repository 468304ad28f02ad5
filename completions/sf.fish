# fish completion for sf: asks `sf __complete`, whose answers are lines of "value TAB description", as fish wants them.

function __sf_complete
    set -l words (commandline -opc) (commandline -ct | string collect --allow-empty)
    set -l answers (sf __complete $words[2..] 2>/dev/null)
    if string match -q ':files*' -- $answers[1]
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answers
    end
end

complete -c sf -f -a '(__sf_complete)'
