from vlmdesc.cli.app import main

main()
