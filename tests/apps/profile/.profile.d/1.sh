ORDER="1"
echo first says hello
