from support.databases import *  # noqa: F403
