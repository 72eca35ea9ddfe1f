# What the first-boot scripts share: credentials, coded lines, waiting, files that appear whole.
# Sourced by dash; units send standard error to the journal and the console.

# cred NAME: the credential's value, else the image's default, else nothing.
cred() {
    for file in "${CREDENTIALS_DIRECTORY:-/nonexistent}/$1" "/usr/lib/nodelith/defaults/$1"; do
        if [ -e "$file" ]; then
            # Not `cat`: under emulation each process costs a boot 50 ms or more.
            while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done <"$file"
            return
        fi
    done
}

# say CODE TEXT: one line that a person can look up in docs/console-codes.md.
say() {
    printf '%s %s\n' "$1" "$2" >&2
}

# fail CODE TEXT: says why, and ends the unit as failed.
fail() {
    say "$@"
    exit 1
}

# wait_a_bit: sleeps 1, 2, 4 … 15 s, each up to a quarter longer, so that a rebooted fleet does not knock in step.
wait_a_bit() {
    delay=${delay:-1}
    jitter=$(od -An -N1 -tu1 /dev/urandom)
    sleep "$delay.$((jitter * 24 / 255 * delay % 100))"
    delay=$((delay * 2))
    if [ "$delay" -gt 15 ]; then delay=15; fi
}

# put FILE MODE [OWNER]: standard input becomes the file, whole or not at all, also across a power cut. OWNER as for chown.
put() {
    if install --mode="$2" /dev/stdin "$1.new" && { [ -z "${3:-}" ] || chown "$3" "$1.new"; } &&
        lasts "$1" "$1.new" && mv -f "$1.new" "$1"; then
        lasts "$1" "${1%/*}"
    else
        rm -f "$1.new"
        return 1
    fi
}

# lasts FILE WHAT: syncs WHAT, unless FILE is in /run, which no power cut spares.
lasts() {
    case $1 in
    /run/*) ;;
    *) sync "$2" ;;
    esac
}
