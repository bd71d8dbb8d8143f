"""The same question by the SDK of OpenAI, as applications ask it: `sdk.py OUTBOUND [--stream] PROMPT`.

Prints how many words were read and how it ended. Where outbound connections are captured the base URL would be
http://models.internal/v1, and nothing else would be needed.
"""

import argparse

import openai


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outbound", help="IP:port where the sidecar takes the application's calls")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("prompt")
    arguments = parser.parse_args()
    client = openai.OpenAI(
        base_url=f"http://{arguments.outbound}/v1",
        default_headers={"host": "models.internal"},
        # The SDK insists on one. The sidecar takes it away.
        api_key="the-application-has-none",
    )
    asked = {"model": "chat", "messages": [{"role": "user", "content": arguments.prompt}]}
    words, end = 0, "whole"
    try:
        if arguments.stream:
            for event in client.chat.completions.create(stream=True, **asked):
                words += sum(len(choice.delta.content.split()) for choice in event.choices if choice.delta.content)
        else:
            words = len(client.chat.completions.create(**asked).choices[0].message.content.split())
    except openai.APIError as error:
        end = f"{type(error).__name__} raised"
    print(f"{words} words, {end}")


if __name__ == "__main__":
    main()
