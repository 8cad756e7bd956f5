"""What the files in cluster/ may hold, as JSON schemas: the fields that they use, and no others, so that a typo is found.

Sources: KubeRay 1.6 to 1.7, ray-operator/apis/ray/v1/raycluster_types.go and rayjob_types.go; Kubernetes' core/v1 and
apps/v1 types; the Compose specification. Fields that no file uses are left out on purpose: add one with its use.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
NOTHING: Schema = {"type": "null"}


def record(required: Schema | None = None, optional: Schema | None = None) -> Schema:
    """An object with these fields alone."""
    required, optional = required or {}, optional or {}
    fields = {**required, **optional}
    return {"type": "object", "properties": fields, "required": [*required], "additionalProperties": False}


def table(of: Schema, least: int = 0) -> Schema:
    """An object with any keys."""
    return {"type": "object", "additionalProperties": of, "minProperties": least}


def several(of: Schema) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": of, "minItems": 1}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": [*values]}


TEXTS = table(TEXT)
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(m|Ki|Mi|Gi|Ti)?$"}
RESOURCES = record(optional={"requests": table(QUANTITY, 1), "limits": table(QUANTITY, 1)})
NAMED = record(
    optional={"name": TEXT, "generateName": {"type": "string", "pattern": "^[a-z][a-z-]*-$"}, "labels": TEXTS}
)
SECRET = record({"secretKeyRef": record({"name": TEXT, "key": TEXT})})
PROBE = record(optional={"exec": record({"command": several(TEXT)}), "tcpSocket": record({"port": TEXT})})
CONTAINER = record(
    {"name": TEXT, "image": TEXT, "resources": RESOURCES},
    {
        "command": several(TEXT),
        "env": several(
            {"oneOf": [record({"name": TEXT, "value": TEXT}), record({"name": TEXT, "valueFrom": SECRET})]},
        ),
        "ports": several(record({"containerPort": COUNT, "name": TEXT})),
        "readinessProbe": PROBE,
        "volumeMounts": several(record({"name": TEXT, "mountPath": TEXT}, {"subPath": TEXT})),
    },
)
POD = record(
    {"containers": several(CONTAINER)},
    {
        "securityContext": record({"fsGroup": COUNT}),
        "terminationGracePeriodSeconds": COUNT,
        "volumes": several(record({"name": TEXT, "persistentVolumeClaim": record({"claimName": TEXT})})),
    },
)
TEMPLATE = record({"spec": POD}, {"metadata": NAMED})

HEAD = record(
    {"rayStartParams": TEXTS, "template": TEMPLATE, "serviceType": one_of("ClusterIP", "NodePort", "LoadBalancer")}
)
WORKERS = record(
    {
        "groupName": TEXT,
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "rayStartParams": TEXTS,
        "template": TEMPLATE,
    }
)
RAY_CLUSTER = record(
    {
        "rayVersion": TEXT,
        "authOptions": record({"mode": one_of("token", "disabled"), "secretName": TEXT}),
        "headGroupSpec": HEAD,
        "workerGroupSpecs": several(WORKERS),
    },
    {
        "enableInTreeAutoscaling": FLAG,
        "autoscalerOptions": record(
            optional={
                "version": one_of("v1", "v2"),
                "idleTimeoutSeconds": COUNT,
                "upscalingMode": one_of("Default", "Aggressive", "Conservative"),
            }
        ),
    },
)
RAY_JOB = record(
    {"entrypoint": TEXT, "rayClusterSpec": RAY_CLUSTER},
    {
        "submissionMode": one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        "backoffLimit": COUNT,
        "shutdownAfterJobFinishes": FLAG,
        "ttlSecondsAfterFinished": COUNT,
        "activeDeadlineSeconds": COUNT,
    },
)
CLAIM = record(
    {
        "accessModes": several(one_of("ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany")),
        "resources": record({"requests": record({"storage": QUANTITY})}),
    },
    {"storageClassName": TEXT},
)
DEPLOYMENT = record(
    {"selector": record({"matchLabels": TEXTS}), "template": TEMPLATE},
    {"replicas": COUNT, "strategy": record({"type": one_of("Recreate", "RollingUpdate")})},
)
SERVICE = record(
    {"selector": TEXTS, "ports": several(record({"port": COUNT, "targetPort": TEXT}))},
    {"type": one_of("ClusterIP", "NodePort", "LoadBalancer")},
)

KINDS = {
    ("ray.io/v1", "RayCluster"): RAY_CLUSTER,
    ("ray.io/v1", "RayJob"): RAY_JOB,
    ("v1", "PersistentVolumeClaim"): CLAIM,
    ("v1", "Service"): SERVICE,
    ("apps/v1", "Deployment"): DEPLOYMENT,
}
"Of each kind of object, what its `spec` may hold."

COMPOSE = record(
    {
        "name": TEXT,
        "services": table(
            record(
                {"image": TEXT},
                {
                    "build": record({"context": TEXT}, {"dockerfile": TEXT, "target": TEXT}),
                    "command": several(TEXT),
                    "depends_on": table(record({"condition": one_of("service_started", "service_healthy")}), 1),
                    "environment": TEXTS,
                    "healthcheck": record(
                        {"test": several(TEXT)}, {"interval": TEXT, "timeout": TEXT, "retries": COUNT}
                    ),
                    "ports": several(TEXT),
                    "restart": one_of("no", "always", "on-failure", "unless-stopped"),
                    "secrets": several(TEXT),
                    "volumes": several(TEXT),
                },
            ),
            1,
        ),
    },
    {"volumes": table(NOTHING), "secrets": table(record({"file": TEXT}))},
)


def kubernetes_object(one: Schema) -> Schema:
    """The schema of an object of this kind.

    Raises:
        KeyError: no file holds such objects.
    """
    kind = (one["apiVersion"], one["kind"])
    return record({"apiVersion": TEXT, "kind": TEXT, "metadata": NAMED, "spec": KINDS[kind]})
