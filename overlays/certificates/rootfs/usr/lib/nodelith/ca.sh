# Talking to step-ca. Sourced by the certificate scripts, after lib.sh.

# ask OUT CURL-ARGUMENT…: a request to the CA; $answer is the HTTP status, 000 when no whole answer came, $broke curl's code,
# $found what OpenSSL found wrong with the CA's certificate: 9 that it is not valid yet, 10 that it is not any more.
ask() {
    out=$1
    shift
    broke=0
    said=$(curl --silent --proto =https --connect-timeout 10 --max-time 60 --output "$out" \
        --write-out '%{http_code} %{ssl_verify_result}' "$@") || broke=$?
    answer=${said% *} found=${said#* }
    # A slow CA cuts its own answer off 15 s after the question: the status is there by then, what it is about is not.
    if [ "$broke" != 0 ]; then answer=000; fi
}

# early: whether the CA's certificate is not valid yet: a clock that is seconds behind a CA made just now catches up by itself.
early() {
    [ "$broke" = 60 ] && [ "$found" = 9 ]
}

# waiting URL [FOR]: says once that the CA is waited for.
waiting() {
    if [ -n "${told:-}" ]; then return; fi
    told=1
    if early; then
        say NL-CERT-010 "waiting for $1${2:-}: its certificate is not valid yet at $(date -u +%Y-%m-%dT%H:%M:%SZ), by our clock"
    else
        say NL-CERT-010 "waiting for $1${2:-} (curl $broke, answer $answer)"
    fi
}

# fits FILE FINGERPRINT: whether the certificate is the one with that digest.
fits() {
    sum=$(openssl x509 -in "$1" -outform DER 2>/dev/null | sha256sum)
    [ "${sum%% *}" = "$2" ]
}

# fetch_root URL FINGERPRINT FILE: the CA's root certificate, waiting for the CA as long as it takes.
# Whoever answers is not trusted yet: only the certificate's own digest counts. Mostly the certificate before has brought it.
fetch_root() {
    for known in /var/lib/nodelith/certificates/*/ca.pem; do
        if [ -e "$known" ] && fits "$known" "$2"; then
            cp "$known" "$3"
            return
        fi
    done
    told=
    while :; do
        ask "$3.json" --insecure "$1/root/$2"
        case $answer in
        000 | 5??)
            waiting "$1"
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

# present URL WORK CSR TOKEN: shows a one-time token, waiting while the CA does not answer, unless $once; sets $answer.
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
        if [ "$broke" = 60 ] && ! early; then
            refused "$1"
        elif [ "$answer" != 000 ] && [ "$answer" -lt 500 ]; then
            return
        fi
        waiting "$1"
        if [ -n "${once:-}" ]; then return; fi
        wait_a_bit
    done
}

# refused URL: ends, for the CA's own certificate is not to be trusted; is it our clock?
refused() {
    if [ "$found" = 10 ]; then late "$1"; fi
    fail NL-CERT-007 "$1 shows a certificate that the pinned root has not signed, or for another address"
}

# late URL: ends, for what the CA shows or gives is not valid any more.
late() {
    fail NL-CERT-005 "the clock says $(date -u +%Y-%m-%dT%H:%M:%SZ), when a certificate of $1 is not valid any more: set the clock"
}
