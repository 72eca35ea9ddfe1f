# A token that was not spent buys the certificate of its own kind and name, whatever the request asks for.
set -eu
. /usr/lib/nodelith/lib.sh
. /usr/lib/nodelith/ca.sh
. /usr/lib/nodelith/answer.sh
url=https://$address_controller:8443
own=/var/lib/nodelith/certificates/kube-proxy
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$own/ca.pem" "$work/root.pem"
# The first one was spent for the certificate that is there.
set -- $(cat /run/credentials/@system/nodelith.certificates.kube-proxy.tokens)
[ "$#" = 3 ] || { echo "$# tokens"; exit 1; }
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/key.pem"
# want ANSWER TOKEN SUBJECT NAME ADDRESS
want() {
    openssl req -new -key "$work/key.pem" -subj "$3" -addext "subjectAltName=DNS:$4,IP:$5" >"$work/csr.pem"
    present "$url" "$work" "$work/csr.pem" "$2"
    [ "$answer" = "$1" ] || { echo "$3 for $4: $answer, not $1"; exit 1; }
}
want 403 "$3" "/CN=worker-2" worker-2 "$address_worker_2"
# Its own name, and more power.
want 201 "$2" "/O=system:masters/CN=$name" "$name" "$address"
field crt "$work/answer.json" >"$work/leaf.pem"
shown() { openssl x509 -in "$1" -noout -subject -ext extendedKeyUsage,keyUsage; }
[ "$(shown "$work/leaf.pem")" = "$(shown "$own/cert.pem")" ] || { echo "bought: $(shown "$work/leaf.pem")"; exit 1; }
