# Two images from one file:
#   docker build --target sidecar -t realpod-sidecar .
#   docker build --target helper  -t realpod-helper  .
# Debian, not Alpine: the helper's netlink reader (koffi) is tested with glibc, and --reclaim with util-linux's fallocate.
# The release workflow sets NODE_IMAGE to the same tag with its digest, which the images' provenance then names. The tag is the
# one of .github/base-image/Dockerfile, which dependabot keeps up to date.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

# Compiled JavaScript is the same for every platform: it is built once, on the builder's own.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# npm 10 ends with 0 without a network: what it should have installed has to load.
RUN npm ci --ignore-scripts --no-audit --no-fund && node -e "require('typescript')"
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build && node dist/cli.js --version

# The source `trace`, a program without libraries. For x86-64 only: elsewhere the folder stays empty, and the helper says so.
FROM ${NODE_IMAGE} AS trace
COPY bpf /bpf
RUN mkdir /trace \
    && if [ "$(uname -m)" = x86_64 ]; then \
      apt-get update -qq \
      && apt-get install -y -qq --no-install-recommends clang libbpf-dev libc6-dev >/dev/null \
      && sh /bpf/build.sh && cp /bpf/realpod-trace /bpf/trace.bpf.c /bpf/nginx.bpf.h /bpf/buffers.bpf.h /bpf/trace.h /bpf/README.md /trace; fi

FROM ${NODE_IMAGE} AS helper-packages
WORKDIR /app
COPY package.json package-lock.json k8s/trim-packages.sh ./
# koffi and its prebuilt library come as packages of their own; no install script is needed.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
    && sh trim-packages.sh node_modules \
    && node -e "for (const name of Object.keys(require('./package.json').dependencies)) if (name !== 'uplot') import(name).catch((error) => { console.error(error); process.exit(1); })"

# What only the helper loads: the Kubernetes client and koffi.
FROM helper-packages AS sidecar-packages
RUN npm uninstall --no-save --omit=dev --ignore-scripts --no-audit --no-fund @kubernetes/client-node koffi \
    && sh trim-packages.sh node_modules \
    && node -e "for (const name of Object.keys(require('./package.json').dependencies)) if (!['uplot', 'koffi', '@kubernetes/client-node'].includes(name)) import(name).catch((error) => { console.error(error); process.exit(1); })"

# Node, a shell and a few programs: no package manager, no compiler, no Perl.
FROM ${NODE_IMAGE} AS root
COPY k8s/minimal-root.sh /
RUN sh /minimal-root.sh /root-file-system && ln -s /app/dist/cli.js /root-file-system/usr/local/bin/realpod

FROM scratch AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="realpod" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/realpod/realpod" \
      org.opencontainers.image.documentation="https://github.com/realpod/realpod/blob/main/README.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV NODE_ENV=production PATH=/usr/local/bin:/usr/bin:/bin
COPY --from=root /root-file-system /
WORKDIR /app
COPY package.json ./
COPY demo ./demo
COPY --from=build /app/dist ./dist

FROM runtime AS sidecar
LABEL org.opencontainers.image.title="realpod sidecar" \
      org.opencontainers.image.description="Puts the pod that really answered into nginx access logs"
COPY --from=sidecar-packages /app/node_modules ./node_modules
COPY --chmod=0755 k8s/stay-up.sh /usr/local/bin/stay-up
COPY k8s/health.mjs ./health.mjs
# nginx must not suffer from a ConfigMap: a container that ends takes its pod out of its Services.
ENV REALPOD_ON_BAD_OPTIONS=pass
USER 65532:65532
EXPOSE 9798
HEALTHCHECK --interval=30s --timeout=5s CMD ["node", "/app/health.mjs", "9798"]
# stay-up hands signals on to node and exits with its status when it was told to end.
ENTRYPOINT ["/usr/local/bin/stay-up"]
CMD ["sidecar"]

FROM runtime AS helper
LABEL org.opencontainers.image.title="realpod helper" \
      org.opencontainers.image.description="Reads a node's connections and requests for realpod sidecars" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
COPY --from=helper-packages /app/node_modules ./node_modules
COPY --from=trace /trace ./bpf
COPY k8s/health.mjs ./health.mjs
# Root, as Kubernetes gives capabilities to no one else; k8s/helper drops all of them but NET_ADMIN.
EXPOSE 9797
HEALTHCHECK --interval=30s --timeout=5s CMD ["node", "/app/health.mjs", "9797"]
# node is PID 1 and handles SIGTERM itself.
ENTRYPOINT ["realpod"]
CMD ["helper"]
