"""What visitors see during maintenance unless there is a page of one's own."""

DEFAULT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Maintenance</title>
<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem}</style>
<h1>Back soon</h1>
<p>This site is down for maintenance. Please try again in a few minutes.</p>
"""
