# Four nginx pods behind a Service with a NodePort, one more with a hostPort, and a toolbox; ends when all are there.
set -eu
ctl() { HOME=/tmp /usr/lib/nodelith/kubectl-admin "$@"; }
ctl apply -f - <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: my-nginx}
spec:
  replicas: 4
  selector: {matchLabels: {run: my-nginx}}
  template:
    metadata: {labels: {run: my-nginx}}
    spec:
      automountServiceAccountToken: false
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {run: my-nginx}}}
      containers:
      - {name: nginx, image: nodelith.dev/nginx:1, imagePullPolicy: Never, ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: my-nginx}
spec: {type: NodePort, clusterIP: 10.32.0.80, selector: {run: my-nginx}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hosted}
spec:
  automountServiceAccountToken: false
  nodeName: worker-1
  containers:
  - {name: nginx, image: nodelith.dev/nginx:1, imagePullPolicy: Never, ports: [{containerPort: 8080, hostPort: 8088}]}
---
apiVersion: v1
kind: Pod
metadata: {name: toolbox}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: toolbox, image: nodelith.dev/toolbox:1, imagePullPolicy: Never}]
END
ctl wait --for=condition=Ready --timeout=30s pod/hosted pod/toolbox
ctl rollout status --timeout=30s deployment/my-nginx
ctl -n kube-system rollout status --timeout=30s deployment/coredns
# Its two pods stand on two nodes, whichever worker was first.
nodes=$(ctl -n kube-system get pods -l k8s-app=kube-dns -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u)
[ "$nodes" = "worker-1
worker-2" ]
