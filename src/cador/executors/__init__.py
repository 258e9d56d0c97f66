"""Where the processes of jobs run: one file per executor, one contract (``cador.ports.executor``)."""
