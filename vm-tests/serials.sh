# The serial number of each certificate of this machine.
set -eu
for file in /var/lib/nodelith/certificates/*/cert.pem; do openssl x509 -in "$file" -noout -serial; done
