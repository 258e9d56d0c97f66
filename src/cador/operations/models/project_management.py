"""Kind ``projectmanagement``: systems that keep what people work on."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import Field, ValidationError, model_validator

from cador.domain.errors import Invalid
from cador.jobs.definition import raise_faults
from cador.operations.models.body import Body, check_free_name, check_line, require
from cador.operations.models.integrations import check_url


class _Spec(Body):
    address: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]

    @model_validator(mode="after")
    def _rules(self) -> "_Spec":
        for key in (self.address, *self.needed):
            require(getattr(self, key), f"spec.{key} cannot be empty")
        check_url(getattr(self, self.address), f"spec.{self.address}")
        for key in type(self).model_fields:
            check_line(getattr(self, key), f"spec.{key}", 4096)
        return self


class TapdSpec(_Spec):
    """Jobs of type ``tapd`` use it."""

    address: ClassVar[str] = "tapd_address"
    needed: ClassVar[tuple[str, ...]] = ("tapd_client_id", "tapd_client_secret")

    tapd_address: str = ""
    tapd_client_id: str = ""
    tapd_client_secret: str = Field("", repr=False)
    tapd_company_id: str = ""


class JiraSpec(_Spec):
    address: ClassVar[str] = "jira_host"
    needed: ClassVar[tuple[str, ...]] = ()

    jira_auth_type: str = ""
    jira_host: str = ""
    jira_user: str = ""
    jira_token: str = Field("", repr=False)
    jira_personal_access_token: str = Field("", repr=False)


class MeegoSpec(_Spec):
    address: ClassVar[str] = "meego_host"
    needed: ClassVar[tuple[str, ...]] = ("meego_plugin_id", "meego_plugin_secret")

    meego_host: str = ""
    meego_plugin_id: str = ""
    meego_plugin_secret: str = Field("", repr=False)
    meego_user_key: str = ""


class PingCodeSpec(_Spec):
    address: ClassVar[str] = "ping_code_address"
    needed: ClassVar[tuple[str, ...]] = ("ping_code_client_id", "ping_code_client_secret")

    ping_code_address: str = ""
    ping_code_client_id: str = ""
    ping_code_client_secret: str = Field("", repr=False)


SPECS: Final[Mapping[str, type[_Spec]]] = {
    "jira": JiraSpec,
    "meego": MeegoSpec,
    "pingcode": PingCodeSpec,
    "tapd": TapdSpec,
}


class ProjectManagementChange(Body):
    """What is absent stays. ``spec``: of its fields, too, as long as the type stays."""

    system_identity: str | None = None
    type: str | None = None
    spec: dict[str, Any] | None = None


class ProjectManagementBody(Body):
    """``system_identity``: its name. ``spec`` by ``type``: tapd ``{tapd_address, tapd_client_id, tapd_client_secret,
    tapd_company_id}``, jira ``{jira_auth_type, jira_host, jira_user, jira_token, jira_personal_access_token}``, meego
    ``{meego_host, meego_plugin_id, meego_plugin_secret, meego_user_key}``, pingcode ``{ping_code_address,
    ping_code_client_id, ping_code_client_secret}``. Only ``tapd`` is used by jobs of this server."""

    system_identity: str = ""
    type: str = ""
    spec: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _rules(self) -> "ProjectManagementBody":
        require(self.system_identity, "system_identity cannot be empty")
        check_free_name(self.system_identity, "system_identity")
        model = SPECS.get(self.type)
        if model is None:
            raise Invalid(f"type must be one of {', '.join(SPECS)}", place="type")
        try:
            self.spec = model.model_validate(self.spec).document()
        except ValidationError as error:
            raise_faults(error)
        return self
