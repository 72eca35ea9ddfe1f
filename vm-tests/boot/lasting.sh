# What must be the same after a reboot.
set -eu
cat /etc/machine-id
openssl x509 -in /var/lib/nodelith/certificates/flannel/cert.pem -noout -serial
grep -x 'FLANNEL_SUBNET=.*' /run/flannel/subnet.env
