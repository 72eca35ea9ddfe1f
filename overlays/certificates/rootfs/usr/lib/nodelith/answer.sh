# What the CA answers: read, checked and put in place. Sourced by the certificate scripts, after lib.sh.

# field NAME FILE: a PEM text out of a JSON answer.
field() {
    sed -n "/\"$1\":\"/{s/.*\"$1\":\"\([^\"]*\)\".*/\1/;s/\\\\n/\\n/gp}" "$2"
}

# names TEXT NAME: whether the name is one of those that `openssl x509 -ext subjectAltName` has printed.
names() {
    case $1 in
    *" $2,"* | *" $2
"*) ;;
    *) return 1 ;;
    esac
}

# life TOKEN: until when a token says it is valid; its middle part is base64url without padding.
life() {
    claims=$(printf '%s' "$1" | cut -d. -f2 | tr '_-' '/+')
    while [ $((${#claims} % 4)) != 0 ]; do claims=$claims=; done
    until=$(printf '%s' "$claims" | base64 -d 2>/dev/null | sed -n 's/.*"exp":\([0-9]*\).*/\1/p')
    printf 'valid until %s' "$(date -u -d "@${until:-0}" +%Y-%m-%dT%H:%M:%SZ)"
}

# keep DIR WORK OWNER: checks an answer against key and root, and puts it in place: the certificate last. That it is not valid
# yet by a clock that is a minute behind the CA's is no reason to spend another token: others look at it by theirs.
keep() {
    field crt "$2/answer.json" >"$2/leaf.pem"
    field ca "$2/answer.json" >"$2/intermediate.pem"
    openssl verify -no_check_time -CAfile "$2/root.pem" -untrusted "$2/intermediate.pem" "$2/leaf.pem" >/dev/null 2>&1 || return 1
    theirs=$(openssl x509 -in "$2/leaf.pem" -noout -pubkey) || return 1
    [ "$theirs" = "$(openssl pkey -in "$1/key.pem" -pubout)" ] || return 1
    put "$1/ca.pem" 0644 <"$2/root.pem" && cat "$2/leaf.pem" "$2/intermediate.pem" | put "$1/cert.pem" 0644
}
