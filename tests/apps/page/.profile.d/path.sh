# As a buildpack has it: what the app brings along comes first.
export PATH="$HOME/bin:$PATH"
