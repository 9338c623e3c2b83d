# The images of the cluster: one static program each, and nothing else. There is no shell,
# no library and no package in them that could have a hole. scripts/images.sh builds them
# from bin/. Each folder that a volume is mounted on belongs to the user that the programs
# run as; a new volume takes that over.
#
# A coordinator that reaches its chain by https needs the certificates of the host:
# mount /etc/ssl/certs/ca-certificates.crt, read-only, at the same path.

FROM scratch AS signer
COPY --chown=65532:65532 data /data
COPY coffer-signer /coffer-signer
USER 65532:65532
ENTRYPOINT ["/coffer-signer"]

FROM scratch AS coordinator
COPY --chown=65532:65532 data /data
COPY coffer-coordinator /coffer-coordinator
USER 65532:65532
ENTRYPOINT ["/coffer-coordinator"]

FROM scratch AS people
COPY --chown=65532:65532 data /data
COPY coffer /coffer
USER 65532:65532
ENTRYPOINT ["/coffer"]

# For demonstrations only: the dev chain, and the ceremony of a cluster whose members are
# all one's own.
FROM scratch AS demo
COPY --chown=65532:65532 cluster /cluster
COPY --chown=65532:65532 data /data
COPY coffer coffer-signer coffer-coordinator coffer-demo /
USER 65532:65532
ENTRYPOINT ["/coffer-demo"]
