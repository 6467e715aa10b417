"""Ask a model about one video: the answers, and what they cost.

    evalkit ask VIDEO "QUESTION" ["QUESTION" ...] model=MODEL

VIDEO is a file, or a folder of numbered pictures with fps=<pictures a second>. The questions are sent as they are
written, after the video, and share its prefill. Answers go to standard output, costs and notes to standard error.
Settings: model=, model.*, video.*, decoding.*, system=<system text>, fps=, plugins=PACKAGE, --config-dir FOLDER.
Exit code 0: every question was answered. 1: a mistake, or a question that failed.
"""
