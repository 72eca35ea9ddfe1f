# A pod on each worker that says whom it sees (7000), and sends back datagrams (7001) and streams (7002), behind a service
# of its own. Prints the pods' addresses.
set -eu
ctl() { HOME=/tmp /usr/lib/nodelith/kubectl-admin "$@"; }
for number in 1 2; do
    cat <<END
---
apiVersion: v1
kind: Pod
metadata: {name: echo-$number, labels: {echo: "$number"}}
spec:
  nodeName: worker-$number
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: echo
    image: nodelith.dev/toolbox:1
    imagePullPolicy: Never
    command: [sh, -c]
    args:
    - |
      socat UDP4-RECVFROM:7001,fork EXEC:cat &
      socat TCP4-LISTEN:7002,fork,reuseaddr EXEC:cat &
      exec socat TCP4-LISTEN:7000,fork,reuseaddr 'SYSTEM:echo \$SOCAT_PEERADDR'
---
apiVersion: v1
kind: Service
metadata: {name: echo-$number}
spec:
  clusterIP: 10.32.0.8$number
  selector: {echo: "$number"}
  ports: [{name: peer, port: 7000}, {name: datagrams, port: 7001, protocol: UDP}, {name: streams, port: 7002}]
END
done | ctl apply -f - >&2
ctl wait --for=condition=Ready --timeout=30s pod/echo-1 pod/echo-2 >&2
ctl get pods echo-1 echo-2 -o 'jsonpath={.items[*].status.podIP}'
