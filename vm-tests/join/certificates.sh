# Every certificate that the image declares: made here, readable by its owner only, for this machine's names.
set -eu
for kind in /usr/lib/nodelith/certificates/*; do
    dir=/var/lib/nodelith/certificates/${kind##*/}
    read -r owner <"$kind/owner"
    [ "$(stat -c '%a %U' "$dir/key.pem")" = "600 ${owner%%:*}" ] || { echo "key of ${kind##*/}: $(stat -c '%a %U' "$dir/key.pem")"; exit 1; }
    openssl verify -CAfile "$dir/ca.pem" -untrusted "$dir/cert.pem" "$dir/cert.pem"
    [ "$(openssl x509 -in "$dir/cert.pem" -noout -pubkey)" = "$(openssl pkey -in "$dir/key.pem" -pubout)" ]
    sans=$(openssl x509 -in "$dir/cert.pem" -noout -ext subjectAltName | tail -n 1 | tr -d ' ')
    [ "$sans" = "DNS:$name,IPAddress:$address" ] || { echo "${kind##*/} is for $sans"; exit 1; }
    case $(openssl x509 -in "$dir/cert.pem" -noout -subject -nameopt RFC2253) in
    *CN=flannel* | *CN=root* | *CN="$name"*) ;;
    *) echo "${kind##*/}: $(openssl x509 -in "$dir/cert.pem" -noout -subject)"; exit 1 ;;
    esac
done
# No key and no token on the command line of what runs (a set of one letter, so that grep does not find its own; it fails
# where a process ends meanwhile, so what counts is what it found), no CA key on a worker.
told=$(grep -alE 'PRIVATE[ ]KEY|[e]yJ[A-Za-z0-9_-]{20}' /proc/[0-9]*/cmdline 2>/dev/null || true)
[ -z "$told" ] || { echo "a secret is in $told"; exit 1; }
case $name in worker*) ! grep -rlE 'PRIVATE KEY' /var/lib /run/nodelith 2>/dev/null | grep -v '/certificates/[a-z-]*/key.pem$' ;; esac
