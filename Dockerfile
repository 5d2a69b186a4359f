# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target sidecar -t realpod-sidecar .
#   docker build --target helper  -t realpod-helper  .
# Debian, not Alpine: the helper's netlink reader (koffi) is tested with glibc, and --reclaim with util-linux's fallocate.
ARG NODE_IMAGE=node:20.20.2-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build && chmod 0755 dist/cli.js

FROM ${NODE_IMAGE} AS helper-packages
WORKDIR /app
COPY package.json package-lock.json ./
# koffi and its prebuilt library come as packages of their own; no install script is needed.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

# What only the helper loads: the Kubernetes client and koffi. yaml is for `realpod inject`.
FROM helper-packages AS sidecar-packages
RUN npm uninstall --no-save --omit=dev --ignore-scripts --no-audit --no-fund @kubernetes/client-node koffi yaml

FROM ${NODE_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="realpod" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV NODE_ENV=production
# npm, yarn and corepack have no business in a running container.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
      /usr/local/bin/yarn /usr/local/bin/yarnpkg /opt/yarn-* \
    && ln -s /app/dist/cli.js /usr/local/bin/realpod
WORKDIR /app
COPY package.json ./
COPY --from=build /app/dist ./dist

FROM runtime AS sidecar
LABEL org.opencontainers.image.title="realpod sidecar" \
      org.opencontainers.image.description="Puts the pod that really answered into nginx access logs"
COPY --from=sidecar-packages /app/node_modules ./node_modules
COPY --chmod=0755 k8s/stay-up.sh /usr/local/bin/stay-up
USER 65532:65532
EXPOSE 9798
HEALTHCHECK --interval=30s --timeout=5s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9798/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# stay-up hands signals on to node and exits with its status when it was told to end.
ENTRYPOINT ["/usr/local/bin/stay-up"]
CMD ["sidecar"]

FROM runtime AS helper
LABEL org.opencontainers.image.title="realpod helper" \
      org.opencontainers.image.description="Reads a node's connections and requests for realpod sidecars"
COPY --from=helper-packages /app/node_modules ./node_modules
# Root, as Kubernetes gives capabilities to no one else; k8s/helper drops all of them but NET_ADMIN.
EXPOSE 9797
HEALTHCHECK --interval=30s --timeout=5s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9797/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# node is PID 1 and handles SIGTERM itself.
ENTRYPOINT ["realpod"]
CMD ["helper"]
