"""The page that asks questions about a picture in the browser, and its folder. Imports lite, shapes and below.

`page/` holds the files that are the same for every model: plain HTML, CSS and ES modules, for both engines (see
README.md). `folder` adds a `.tflite` file and its description; `tfvl serve --page` serves the page beside a server.
"""
