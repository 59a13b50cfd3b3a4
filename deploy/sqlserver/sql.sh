#!/bin/bash
# sqlcmd as the administrator, wherever this version of the image keeps it. The password goes by the environment.
set -euo pipefail
tool=$(ls -d /opt/mssql-tools*/bin/sqlcmd | sort | tail -n 1)
# -C: the server's certificate is its own.
SQLCMDPASSWORD=$MSSQL_SA_PASSWORD exec "$tool" -C -S "${MSSQL_HOST:-127.0.0.1}" -U sa "$@"
