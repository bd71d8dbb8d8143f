"""A client of somebody else's making: Nacos's official Python SDK, told what to do.

Every argument behind the options and then every line of standard input is a JSON object with the key "do" and the
parameters of that operation; each is answered by a line of JSON on standard output: {"ok": ...} or {"error": ...}.
What it registered stays for as long as standard input is open.
"""

import argparse
import asyncio
import json
import sys

from v2.nacos import (
    BatchRegisterInstanceParam,
    ClientConfigBuilder,
    ConfigParam,
    DeregisterInstanceParam,
    ListInstanceParam,
    NacosConfigService,
    NacosNamingService,
    RegisterInstanceParam,
    SubscribeServiceParam,
)


def configuration(arguments):
    builder = (
        ClientConfigBuilder()
        .server_address(arguments.server)
        .namespace_id(arguments.namespace)
        .log_dir(f"{arguments.folder}/logs")
        .cache_dir(f"{arguments.folder}/cache")
        .load_cache_at_start(False)
    )
    if arguments.user:
        builder = builder.username(arguments.user).password(arguments.password)
    return builder.build()


def instance(order):
    fields = {name: value for name, value in order.items() if name not in ("do", "service", "group", "cluster")}
    return RegisterInstanceParam(service_name=order["service"], cluster_name=order.get("cluster", ""), **group(order), **fields)


def group(order):
    return {"group_name": order["group"]} if "group" in order else {}


class Client:
    def __init__(self, arguments):
        self.configuration = configuration(arguments)
        self.naming_service = None
        self.config_service = None
        self.pushes = {}

    async def naming(self):
        if self.naming_service is None:
            self.naming_service = await NacosNamingService.create_naming_service(self.configuration)
        return self.naming_service

    async def config(self):
        if self.config_service is None:
            self.config_service = await NacosConfigService.create_config_service(self.configuration)
        return self.config_service

    async def register(self, order):
        return await (await self.naming()).register_instance(instance(order))

    async def deregister(self, order):
        return await (await self.naming()).deregister_instance(
            DeregisterInstanceParam(
                service_name=order["service"],
                ip=order["ip"],
                port=order["port"],
                cluster_name=order.get("cluster", ""),
                **group(order),
            )
        )

    async def batch(self, order):
        instances = [instance({"service": order["service"], **member}) for member in order["instances"]]
        return await (await self.naming()).batch_register_instances(
            BatchRegisterInstanceParam(service_name=order["service"], instances=instances, **group(order))
        )

    async def fill(self, order):
        """Many services with instances each, named and addressed by their numbers; 16 of them at the same time."""
        free = asyncio.Semaphore(16)

        async def one(number):
            network = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            instances = [{"ip": network, "port": 8080 + member} for member in range(order["instances"])]
            async with free:
                return await self.batch({"service": f"{order['prefix']}{number}", "instances": instances})

        return all(await asyncio.gather(*(one(number) for number in range(order["services"]))))

    async def list(self, order):
        found = await (await self.naming()).list_instances(
            ListInstanceParam(
                service_name=order["service"],
                subscribe=False,
                healthy_only=None,
                clusters=order.get("clusters", []),
                **group(order),
            )
        )
        return [
            {"ip": member.ip, "port": member.port, "weight": member.weight, "metadata": member.metadata}
            for member in found
        ]

    async def subscribe(self, order):
        """From now on `pushed` tells what the server pushed last."""

        async def told(members):
            self.pushes[order["service"]] = list(members)

        parameters = SubscribeServiceParam(service_name=order["service"], subscribe_callback=told, **group(order))
        await (await self.naming()).subscribe(parameters)
        return True

    async def pushed(self, order):
        return [
            {
                "ip": member.ip,
                "port": member.port,
                "weight": member.weight,
                "healthy": member.healthy,
                "enabled": member.enabled,
                "ephemeral": member.ephemeral,
                "clusterName": member.clusterName,
                "metadata": member.metadata,
            }
            for member in self.pushes.get(order["service"], [])
        ]

    async def publish(self, order):
        return await (await self.config()).publish_config(
            ConfigParam(data_id=order["document"], group=order["group"], content=order["content"])
        )

    async def remove(self, order):
        return await (await self.config()).remove_config(ConfigParam(data_id=order["document"], group=order["group"]))

    async def read(self, order):
        return await (await self.config()).get_config(ConfigParam(data_id=order["document"], group=order["group"]))

    async def answer(self, line):
        order = json.loads(line)
        try:
            answer = {"ok": await getattr(self, order["do"])(order)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--namespace", default="public")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("orders", nargs="*")
    arguments = parser.parse_args()
    client = Client(arguments)
    for order in arguments.orders:
        await client.answer(order)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await client.answer(line)


asyncio.run(main())
