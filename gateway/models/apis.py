"""APIs: paths that an edge answers itself, by calling an endpoint."""

from django.core.exceptions import ValidationError
from django.db import models

from gateway.models.endpoints import Endpoint
from gateway.models.nodes import Node, Role
from gateway.models.services import METHODS, _check_tokens, check_path
from identity.models import ACL
from identity.models.base import Named, name_is_safe


class API(Named):
    """Decided twice, each time whole: here for the caller, at the endpoint for the identity that it gives."""

    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="apis")
    path = models.CharField(max_length=1024)
    methods = models.JSONField(default=list, blank=True, help_text="None given: every method.")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="apis")
    execute_acl = models.ForeignKey(
        ACL, null=True, blank=True, on_delete=models.PROTECT, related_name="apis", verbose_name="execute ACL"
    )
    description = models.CharField(max_length=255, blank=True)

    class Meta(Named.Meta):
        verbose_name = "API"
        verbose_name_plural = "APIs"
        constraints = [
            name_is_safe("api"),
            models.UniqueConstraint(
                fields=["node", "path"],
                name="api_path_once_per_node",
                violation_error_message="Another API of this node has this path.",
            ),
        ]

    def clean(self) -> None:
        super().clean()
        check_path(self.path)
        _check_tokens("methods", self.methods, METHODS)
        if not self.node_id or not self.endpoint_id:
            return
        if self.node.role == Role.INTERNAL:
            raise ValidationError(
                {"node": f"{self.node.name} is internal; an API stands on an edge or standalone node."}
            )
        port = self.endpoint.registration_port
        if port is not None and port.node_id != self.node_id:
            raise ValidationError(
                {
                    "endpoint": f"{self.endpoint.name} goes through {port.name}, a port of {port.node.name}; "
                    f"the API stands on {self.node.name}."
                }
            )
