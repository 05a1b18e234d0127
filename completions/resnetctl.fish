# fish completion for resnetctl
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
