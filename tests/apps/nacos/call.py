"""An application that finds a service in Nacos by the official SDK and calls an instance at its own address, without
knowing anything of a mesh. Prints a line of JSON for every call: the address called, the status and the text."""

import argparse
import asyncio
import json

import requests
from v2.nacos import ClientConfigBuilder, ListInstanceParam, NacosNamingService


async def instances(arguments):
    configuration = (
        ClientConfigBuilder()
        .server_address(arguments.server)
        .namespace_id(arguments.namespace)
        .log_dir(f"{arguments.folder}/logs")
        .cache_dir(f"{arguments.folder}/cache")
        .load_cache_at_start(False)
        .build()
    )
    naming = await NacosNamingService.create_naming_service(configuration)
    found = await naming.list_instances(
        ListInstanceParam(
            service_name=arguments.service, group_name=arguments.group, subscribe=False, healthy_only=True
        )
    )
    await naming.shutdown()
    return sorted((member.ip, member.port) for member in found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--namespace", default="public")
    parser.add_argument("--group", default="DEFAULT_GROUP")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--proxy", help="sidecar through which the calls go where they are not captured")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("service")
    parser.add_argument("path", nargs="?", default="/")
    arguments = parser.parse_args()
    headers = dict(header.split("=", 1) for header in arguments.header)
    proxies = {"http": f"http://{arguments.proxy}"} if arguments.proxy else None
    found = asyncio.run(instances(arguments))
    for call in range(arguments.times):
        ip, port = found[call % len(found)]
        answer = requests.get(f"http://{ip}:{port}{arguments.path}", headers=headers, proxies=proxies, timeout=10)
        print(json.dumps({"to": f"{ip}:{port}", "status": answer.status_code, "text": answer.text}), flush=True)


main()
