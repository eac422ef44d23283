#!/usr/bin/env python3
"""push.py LAYOUT URL: uploads every image of an OCI layout, indexes within indexes too, to a registry's repository."""

import json
import os
import sys
import urllib.request

LAYOUT, URL = sys.argv[1:]


def request(method, url, data=None, **headers):
    """Sends a request and returns the response."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))


def blob(digest):
    """The bytes of a blob in the layout."""
    with open(os.path.join(LAYOUT, "blobs", *digest.split(":")), "rb") as file:
        return file.read()


def push_blob(digest):
    """Uploads a configuration or layer."""
    location = request("POST", URL + "/blobs/uploads/", b"").headers["Location"]
    separator = "&" if "?" in location else "?"
    url = f"{location}{separator}digest={digest}"
    request("PUT", url, blob(digest), Content_Type="application/octet-stream")


def push_manifest(descriptor, reference):
    """Uploads a manifest or index after all that it names."""
    data = blob(descriptor["digest"])
    document = json.loads(data)
    for child in document.get("manifests", []):
        push_manifest(child, child["digest"])
    if "config" in document:
        for part in [document["config"], *document["layers"]]:
            push_blob(part["digest"])
    request("PUT", f"{URL}/manifests/{reference}", data, Content_Type=descriptor["mediaType"])


with open(os.path.join(LAYOUT, "index.json"), encoding="utf-8") as index:
    for image in json.load(index)["manifests"]:
        push_manifest(image, image["annotations"]["org.opencontainers.image.ref.name"])
