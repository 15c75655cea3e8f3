#!/bin/sh
# Makes an authority, a certificate of its own for bookinfo.example.com, and secret.yaml with both for the gateway.
#   make-certificate.sh [FOLDER]      default: where this file is
set -eu
out=${1:-$(dirname "$0")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -subj "/CN=lab authority" -days 30 -keyout "$work/ca.key" -out "$out/authority.pem" 2>/dev/null
openssl req $key -subj "/CN=bookinfo.example.com" -keyout "$work/tls.key" -out "$work/tls.csr" 2>/dev/null
printf 'subjectAltName=DNS:bookinfo.example.com\n' >"$work/names"
openssl x509 -req -in "$work/tls.csr" -CA "$out/authority.pem" -CAkey "$work/ca.key" -set_serial 0x$(openssl rand -hex 8) -days 30 \
    -extfile "$work/names" -out "$work/tls.crt" 2>/dev/null
umask 077
cat >"$work/secret.yaml" <<DOC
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: bookinfo-credential
  namespace: istio-system
data:
  tls.crt: $(base64 -w0 <"$work/tls.crt")
  tls.key: $(base64 -w0 <"$work/tls.key")
DOC
mv "$work/secret.yaml" "$out/secret.yaml"
echo "$out/secret.yaml, $out/authority.pem"
