"""The page that asks a picture in the browser, and the folder that it lies in. Imports lite, shapes and below.

`page/` holds what is the same everywhere: plain HTML, CSS and ES modules, for both engines (see README.md). `folder`
adds a `.tflite` file and what describes it; `tfvl serve --page` serves the page beside a server's answers.
"""
