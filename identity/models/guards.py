"""What no path may do to predefined objects and to memberships; connected when the app is ready."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from django.db.models.signals import m2m_changed, pre_delete, pre_save
from django.utils.translation import gettext

from identity.models.acls import ACL, check_acl_groups
from identity.models.base import PredefinedError
from identity.models.groups import Group
from identity.models.keystores import Keystore
from identity.models.truststores import Truststore
from identity.models.users import User, check_membership

GUARDED = (User, Group, ACL)


def _refuse_deletion(sender: type[Any], instance: Any, **_: Any) -> None:
    if instance.predefined:
        raise PredefinedError(gettext("{instance} is predefined and cannot be deleted.").format(instance=instance.name))


def _refuse_deletion_of_linked(sender: type[Any], instance: Any, **_: Any) -> None:
    """A group on an ACL, a truststore on a registration, a keystore among those of a port.

    To take it away silently would change who may do what, or what is shown to whom.
    """
    users: set[Any] = set()
    for relation in sender._meta.related_objects:
        if relation.many_to_many:
            users |= set(getattr(instance, relation.get_accessor_name()).all()[:20])
    if users:
        raise ProtectedError(f"{instance} is still used", users)


def _refuse_renaming(sender: type[Any], instance: Any, raw: bool, **_: Any) -> None:
    if raw or instance._state.adding:
        return
    stored = sender.objects.filter(pk=instance.pk).values_list("name", "predefined").first()
    if stored and stored[1] and stored[0] != instance.name:
        raise PredefinedError({"name": gettext("{stored} is predefined and keeps its name.").format(stored=stored[0])})
    if stored and stored[1] != instance.predefined:
        raise PredefinedError(gettext("{stored}: whether it is predefined cannot be changed.").format(stored=stored[0]))


def _check_groups_of_user(instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, **_: Any) -> None:
    if action != "pre_add" or not pk_set:
        return
    if reverse:
        for user in User.objects.filter(pk__in=pk_set):
            check_membership(user, [instance])
    else:
        check_membership(instance, list(Group.objects.filter(pk__in=pk_set)))


def _check_groups_of_acl(
    sender: type[Any], instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, **_: Any
) -> None:
    if reverse:
        if action == "pre_add":
            raise ValidationError(gettext("Set the groups of an ACL from the ACL."))
        return
    if instance.predefined and action in ("pre_remove", "pre_clear"):
        raise PredefinedError(
            gettext("ACL {instance} is predefined and keeps its groups.").format(instance=instance.name)
        )
    if action != "pre_add" or not pk_set:
        return
    if instance.predefined and (instance.allowed.exists() or instance.denied.exists()):
        raise PredefinedError(
            gettext("ACL {instance} is predefined and keeps its groups.").format(instance=instance.name)
        )
    added = list(Group.objects.filter(pk__in=pk_set))
    if sender is ACL.allowed.through:
        check_acl_groups(added, list(instance.denied.all()))
    else:
        check_acl_groups(list(instance.allowed.all()), added)


def connect() -> None:
    for model in GUARDED:
        pre_delete.connect(_refuse_deletion, sender=model, dispatch_uid=f"keep predefined {model.__name__}")
        pre_save.connect(_refuse_renaming, sender=model, dispatch_uid=f"keep name of predefined {model.__name__}")
    for model in (Group, Truststore, Keystore):
        pre_delete.connect(_refuse_deletion_of_linked, sender=model, dispatch_uid=f"keep linked {model.__name__}")
    m2m_changed.connect(_check_groups_of_user, sender=User.groups.through, dispatch_uid="groups of users")
    for through in (ACL.allowed.through, ACL.denied.through):
        m2m_changed.connect(_check_groups_of_acl, sender=through, dispatch_uid=f"groups of ACLs {through.__name__}")
