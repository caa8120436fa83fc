"""Truststores beyond their entries: the current revocation list in the place of the one before."""

from typing import Any

from console.api.changing import DRY_RUN, carry_out
from console.api.operations import Answer, Call, Operation
from console.api.problems import not_found, of_form
from console.api.schemas import component, shape
from console.forms.stores import TruststoreForm
from gateway.audit import Recorder
from identity.core import files
from identity.models import Truststore


def crl_added(call: Call) -> Answer:
    name = call.args["name"]

    def add(recorder: Recorder) -> None:
        form = _form(_row(call), call.body["crl"])
        if not form.is_valid():
            raise of_form(form, {"add_crl": "crl"})
        form.save()

    told = carry_out(
        call, f"revocation list added to truststore {name}", add, ["truststores"], section="truststores", name=name
    )
    return Answer(told)


def _form(row: Truststore, crl: str) -> TruststoreForm:
    """The page's form, with all else as it is."""
    shown = TruststoreForm(instance=row)
    data: dict[str, Any] = {name: getattr(row, name) for name in TruststoreForm.Meta.fields}
    data["crl_sources"] = "\n".join(shown.initial["crl_sources"])
    return TruststoreForm(data | {"add_crl": crl}, instance=row)


def _row(call: Call) -> Truststore:
    row = Truststore.objects.filter(name=call.args["name"]).first()
    if row is None:
        raise not_found("There is no truststore of this name.")
    return row


_CRL = {"type": "string", "maxLength": files.MAX_CRL, "description": "PEM, of an authority in the truststore"}
OPERATIONS = [
    Operation("truststores_crl", "POST", "/truststores/{name}/crl",
              "Add a revocation list; it takes the place of an older one of the same authority",
              crl_added, ("view", "change_identity"), {200: component("outcome")}, "truststores", (DRY_RUN,),
              ("Change-Message",), shape(crl=_CRL), (404, 422)),
]  # fmt: skip
