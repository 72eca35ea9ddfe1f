# Talking to step-ca. Sourced by the certificate scripts, after lib.sh.

# ask OUT CURL-ARGUMENT…: a request to the CA; $answer is the HTTP status, 000 when no whole answer came, $broke curl's code.
ask() {
    out=$1
    shift
    broke=0
    # A slow CA cuts its own answer off 15 s after the question: the status is there by then, what it is about is not.
    answer=$(curl --silent --proto =https --connect-timeout 10 --max-time 60 --output "$out" --write-out '%{http_code}' "$@") ||
        { broke=$? answer=000; }
}

# fits FILE FINGERPRINT: whether the certificate is the one with that digest.
fits() {
    found=$(openssl x509 -in "$1" -outform DER 2>/dev/null | sha256sum)
    [ "${found%% *}" = "$2" ]
}

# fetch_root URL FINGERPRINT FILE: the CA's root certificate, waiting for the CA as long as it takes.
# Whoever answers is not trusted yet: only the certificate's own digest counts. Mostly the certificate before has brought it.
fetch_root() {
    for known in /var/lib/nodelith/certificates/*/ca.pem; do
        if [ -e "$known" ] && fits "$known" "$2"; then
            cp "$known" "$3"
            return
        fi
        break
    done
    told=
    while :; do
        ask "$3.json" --insecure "$1/root/$2"
        case $answer in
        000 | 5??)
            if [ -z "$told" ]; then say NL-CERT-010 "waiting for $1 (curl $broke, answer $answer)"; fi
            told=1
            wait_a_bit
            continue
            ;;
        200) field ca "$3.json" >"$3" ;;
        *) : >"$3" ;;
        esac
        if fits "$3" "$2"; then return; fi
        fail NL-CERT-002 "$1 has not the root certificate with the fingerprint $2: wrong CA, or wrong nodelith.certificates.ca-fingerprint"
    done
}

# present URL WORK CSR TOKEN: shows a one-time token, waiting while the CA does not answer; sets $answer.
present() {
    # The token goes through a file: what is on a command line, every process can read.
    {
        printf '{"csr":"'
        while read -r line; do printf '%s\\n' "$line"; done <"$3"
        printf '","ott":"%s"}' "$4"
    } >"$2/request.json"
    told=
    while :; do
        ask "$2/answer.json" --cacert "$2/root.pem" --header 'Content-Type: application/json' --data-binary "@$2/request.json" "$1/1.0/sign"
        if [ "$broke" = 60 ]; then
            clock_or_tls "$1" "$2"
        elif [ "$answer" != 000 ] && [ "$answer" -lt 500 ]; then
            return
        fi
        if [ -z "$told" ]; then say NL-CERT-010 "waiting for $1 (curl $broke, answer $answer)"; fi
        told=1
        wait_a_bit
    done
}

# clock_or_tls URL WORK: the CA's own certificate was refused; is our clock before or after its root's life?
clock_or_tls() {
    if ! openssl verify -CAfile "$2/root.pem" "$2/root.pem" >/dev/null 2>&1; then
        fail NL-CERT-005 "the clock says $(date -u +%Y-%m-%dT%H:%M:%SZ), when the CA's certificates are not valid: set the clock"
    fi
    fail NL-CERT-007 "$1 shows a certificate that the pinned root has not signed, or for another address"
}
