# No certificate is one of those that were there before, and each lives on for a while.
set -eu
eval "before=\$serials_$(echo "$name" | tr - _)"
for file in /var/lib/nodelith/certificates/*/cert.pem; do
    serial=$(openssl x509 -in "$file" -noout -serial)
    case $before in *"$serial"*) echo "$file is still $serial"; exit 1 ;; esac
    openssl x509 -in "$file" -noout -checkend 60
done
