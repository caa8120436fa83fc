"""APIs: paths that an edge answers itself, by calling an endpoint."""

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext, gettext_lazy

from gateway.models.endpoints import Endpoint
from gateway.models.nodes import Node, Role
from gateway.models.services import METHODS, _check_tokens, check_path
from identity.models import ACL
from identity.models.base import Named, name_is_safe


class API(Named):
    """Decided twice, each time whole: here for the caller, at the endpoint for the identity that it gives."""

    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="apis")
    path = models.CharField(max_length=1024)
    methods = models.JSONField(default=list, blank=True, help_text=gettext_lazy("None given: every method."))
    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="apis")
    execute_acl = models.ForeignKey(
        ACL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="apis",
        verbose_name=gettext_lazy("execute ACL"),
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
                violation_error_message=gettext_lazy("Another API of this node has this path."),
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
                {
                    "node": gettext("{node} is internal; an API stands on an edge or standalone node.").format(
                        node=self.node.name
                    )
                }
            )
        port = self.endpoint.registration_port
        if port is not None and port.node_id != self.node_id:
            raise ValidationError(
                {
                    "endpoint": gettext(
                        "{endpoint} goes through {port}, a port of {node}; the API stands on {node2}."
                    ).format(endpoint=self.endpoint.name, port=port.name, node=port.node.name, node2=self.node.name)
                }
            )
