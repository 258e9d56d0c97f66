"""The error catalogue: every code that leaves the server, its message in both languages, and the two-language texts.

Source: API documents, the error examples of each route. Chinese texts are exact, typos included (``wokflow``); a code's
HTTP status follows from the code: 6xxx and 7xxx answer 400.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

NO_DOCUMENTS: Final = "mongo: no documents in result"
"""The documents' words for "not found", whatever the database."""
DUPLICATE_KEY: Final = "mongo duplicate key error"
"""The documents' words for "exists already"."""


class Operation(Enum):
    """Which operation failed: code, message in Chinese, message in English."""

    BAD_REQUEST = (400, "Bad Request", "Bad Request")
    UNAUTHORIZED = (401, "Unauthorized", "Unauthorized")
    FORBIDDEN = (403, "Forbidden", "Forbidden")
    NOT_FOUND = (404, "Request Not Found", "Request Not Found")
    TOO_LARGE = (413, "Request Entity Too Large", "Request Entity Too Large")
    TOO_MANY = (429, "Too Many Requests", "Too Many Requests")
    INTERNAL = (500, "Internal Error: ", "Internal Error: ")
    UNAVAILABLE = (503, "Service Unavailable", "Service Unavailable")

    CREATE_USER = (6000, "创建用户信息失败", "Create user failed")
    UPDATE_USER = (6001, "更新用户信息失败", "Update user failed")
    FIND_USER = (6002, "获取用户信息失败", "Find user failed")

    CREATE_TEMPLATE = (6040, "创建模板失败", "Create template failed")
    UPDATE_TEMPLATE = (6041, "更新模板失败", "Update template failed")
    GET_TEMPLATE = (6043, "获取模板失败", "Get template failed")
    DELETE_TEMPLATE = (6044, "删除模板失败", "Delete template failed")
    LOAD_SERVICE = (6055, "从代码库导入服务失败", "Load services from the code host failed")
    CREATE_PROJECT = (6060, "创建项目失败", "Create project failed")
    LIST_PROJECTS = (6061, "列出项目失败", "List projects failed")
    UPDATE_PROJECT = (6062, "更新项目失败", "Update project failed")
    DELETE_PROJECT = (6063, "删除项目失败", "Delete project failed")
    GET_PROJECT = (6073, "获取项目失败", "Get project failed")
    CREATE_ENVIRONMENT = (6074, "创建环境失败", "Create environment failed")
    LIST_ENVIRONMENTS = (6075, "列出环境失败", "List environments failed")
    UPDATE_ENVIRONMENT = (6076, "更新环境失败", "Update environment failed")
    DELETE_ENVIRONMENT = (6077, "删除环境失败", "Delete environment failed")
    GET_ENVIRONMENT = (6078, "获取环境失败", "Get environment failed")
    PROJECT_IN_USE = (6079, "项目删除检查失败，因为存在正在使用的环境!", "The project still has environments in use")
    RESTART_SERVICE = (6080, "重启服务失败", "Restart service failed")
    SCALE_SERVICE = (6081, "伸缩服务失败", "Scale service failed")
    UPDATE_IMAGE = (6082, "更新服务镜像失败", "Update service image failed")
    GET_SERVICE = (6083, "获取服务失败", "Get service failed")
    LIST_PODS = (6085, "列出服务Pod失败", "List pods of the service failed")
    DELETE_POD = (6086, "删除服务Pod失败", "Delete pod of the service failed")
    UPDATE_SERVICE = (6092, "更新服务失败", "Update service failed")

    GET_TOOL = (6120, "获取安装脚本失败", "Get tool package failed")
    CREATE_TOOL = (6121, "创建安装脚本失败", "Create tool package failed")
    UPDATE_TOOL = (6122, "更新安装脚本失败", "Update tool package failed")
    DELETE_TOOL = (6124, "删除安装脚本失败", "Delete tool package failed")

    CREATE_TASK = (6160, "创建工作流任务失败", "Create workflow task failed")
    GET_TASK = (6161, "获取工作流任务失败", "Get workflow task failed")
    LIST_TASKS = (6162, "列出工作流任务失败", "List workflow tasks failed")
    CANCEL_TASK = (6163, "取消工作流任务失败", "Cancel workflow task failed")
    RETRY_TASK = (6164, "重试工作流任务失败", "Retry workflow task failed")
    APPROVE_TASK = (6169, "批准工作流任务失败", "Approve workflow task failed")
    TASK_COUNTER = (6190, "获取计数器失败", "Get counter failed")
    QUERY_LOG = (6260, "查询容器日志失败", "Query container log failed")
    FIND_REGISTRY = (6281, "找不到指定的镜像仓库", "Image registry not found")

    CREATE_BUILD = (6520, "新建编译模块失败", "Create build failed")
    UPDATE_BUILD = (6521, "更新编译模块失败", "Update build failed")
    LIST_BUILDS = (6522, "列出编译模块失败", "List builds failed")
    GET_BUILD = (6523, "查询编译模块失败", "Get build failed")
    DELETE_BUILD = (6524, "删除构建模块失败", "Delete build failed")
    CREATE_TEST = (6529, "新建测试模块失败", "Create test failed")
    UPDATE_TEST = (6530, "更新测试模块失败", "Update test failed")
    LIST_TESTS = (6531, "列出测试模块失败", "List tests failed")
    GET_TEST = (6532, "获取测试模块失败", "Get test failed")
    DELETE_TEST = (6533, "删除测试模块失败", "Delete test failed")
    CREATE_SCAN = (6535, "新建扫描模块失败", "Create scan failed")
    UPDATE_SCAN = (6536, "更新扫描模块失败", "Update scan failed")

    UPSERT_WORKFLOW = (6540, "新建或更新wokflow失败", "Create or update workflow failed")  # sic
    LIST_WORKFLOWS = (6541, "列出workflow失败", "List workflows failed")
    FIND_WORKFLOW = (6542, "查询workflow失败", "Find workflow failed")
    DELETE_WORKFLOW = (6543, "删除workflow失败", "Delete workflow failed")
    LINT_WORKFLOW = (6545, "校验workflow失败", "Validate workflow failed")

    STORAGE = (6632, "对象存储参数错误", "Object storage failed")
    FIND_STORAGE = (6634, "未找到指定对象存储", "Object storage not found")
    LIST_CLUSTERS = (6640, "列出集群列表失败", "List clusters failed")
    CREATE_CLUSTER = (6641, "创建集群失败", "Create cluster failed")
    UPDATE_CLUSTER = (6642, "更新集群失败", "Update cluster failed")
    FIND_CLUSTER = (6643, "未找到指定集群", "Cluster not found")
    DELETE_CLUSTER = (6644, "删除集群失败", "Delete cluster failed")
    LIST_OPERATIONS = (6652, "获取操作日志列表失败", "List operation log failed")

    GET_BASE_IMAGE = (6671, "获取基础镜像失败", "Get base image failed")
    CREATE_BASE_IMAGE = (6672, "创建基础镜像失败", "Create base image failed")
    UPDATE_BASE_IMAGE = (6673, "更新基础镜像失败", "Update base image failed")
    LIST_BASE_IMAGES = (6674, "列出基础镜像失败", "List base images failed")
    DELETE_BASE_IMAGE = (6675, "删除基础镜像失败", "Delete base image failed")

    DELETE_USED_BASE_IMAGE = (
        6676,
        "删除基础镜像失败，此基础镜像已经被引用，请确认",
        "Delete base image failed: the image is in use",
    )

    GET_PROXY = (6801, "获取代理失败", "Get proxy failed")
    CREATE_PROXY = (6802, "创建代理失败", "Create proxy failed")
    UPDATE_PROXY = (6803, "更新代理失败", "Update proxy failed")
    DELETE_PROXY = (6805, "删除代理失败", "Delete proxy failed")

    CREATE_IM_APP = (6930, "创建 IM 应用失败", "Create IM application failed")
    UPDATE_IM_APP = (6931, "更新 IM 应用失败", "Update IM application failed")
    GET_IM_APP = (6933, "获取 IM 应用失败", "Get IM application failed")
    DELETE_IM_APP = (6934, "删除 IM 应用失败", "Delete IM application failed")

    CREATE_PROJECT_MANAGEMENT = (6950, "创建项目管理集成失败", "Create project management failed")
    UPDATE_PROJECT_MANAGEMENT = (6951, "更新项目管理集成失败", "Update project management failed")
    GET_PROJECT_MANAGEMENT = (6953, "获取项目管理集成失败", "Get project management failed")
    DELETE_PROJECT_MANAGEMENT = (6954, "删除项目管理集成失败", "Delete project management failed")

    GET_VIEW = (6890, "获取视图详情失败", "Get view failed")
    LIST_VIEWS = (6891, "列出视图失败", "List views failed")
    CREATE_VIEW = (6892, "创建视图失败", "Create view failed")
    UPDATE_VIEW = (6893, "更新视图失败", "Update view failed")
    DELETE_VIEW = (6894, "删除视图失败", "Delete view failed")
    CREATE_TICKET = (7100, "创建预审批单失败", "Create approval ticket failed")
    LIST_TICKETS = (7101, "列出预审批单失败", "List approval tickets failed")

    def __init__(self, code: int, zh: str, en: str) -> None:
        self.code, self.zh, self.en = code, zh, en

    def message(self, language: str) -> str:
        return self.en if language == "en" else self.zh

    @property
    def status(self) -> int:
        """The HTTP status."""
        return 400 if 6000 <= self.code < 8000 else self.code


@dataclass(frozen=True, slots=True)
class Text:
    """A description that exists in both languages."""

    zh: str
    en: str

    def format(self, **values: object) -> "Text":
        return Text(self.zh.format(**values), self.en.format(**values))


WORKFLOW_EXISTS: Final = Text(
    "workflow [{key}] 在项目 [{project}] 中已经存在!", "workflow [{key}] already exists in project [{project}]!"
)
DISPLAY_NAME_TAKEN: Final = Text(
    "workflow v4 [{name}] 展示名称在当前项目下重复!", "display name [{name}] is already used in this project"
)
KEY_PATTERN: Final = Text(
    "工作流标识支持大小写字母、数字和中划线", "a workflow key consists of letters, digits and hyphens"
)
RETRY_NO_TASK: Final = Text("获取工作流任务失败", "Get workflow task failed")
RETRY_PASSED: Final = Text("不能重试已经通过任务", "a passed task cannot be retried")
RETRY_STATUS: Final = Text("工作流任务状态无法重试", "the task cannot be retried in its current status")
NO_ENVIRONMENT: Final = Text("找不到 {project} 的 {env} 环境 ", "environment {env} of project {project} not found")

PLAIN_INTERNAL: Final = frozenset({"/openapi/ticket/approval"})
"""Paths at which an internal failure is called so without the colon that follows elsewhere."""

LEGACY_MESSAGES: Final[Mapping[int, str]] = {
    400: "param is illegal!",
    401: "auth failed!",
    403: "forbidden",
    500: "fail",
}
"""``errorMsg`` of the routes under ``/api/directory/``, by HTTP status; the same in every language."""


def say(text: "str | Text", language: str) -> str:
    """*text* in *language* (``zh`` or ``en``)."""
    if isinstance(text, Text):
        return text.en if language == "en" else text.zh
    return text
